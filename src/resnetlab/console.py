"""What is printed for people: tables and JSON on stdout, reports on stderr."""

from __future__ import annotations

import json
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

T = TypeVar("T")

Report = Callable[[str], None]
"""What long work tells of itself, a line at a time."""


def visible(text: str) -> str:
    """What a terminal would obey rather than show, written as an escape."""
    return "".join(
        char
        if char.isprintable() or unicodedata.category(char) == "Zs"  # spaces of all widths
        else char.encode("unicode_escape").decode()
        for char in text
    )


def print_line(text: object) -> None:
    """A line of text or a path to stdout."""
    print(visible(str(text)))


def print_to_stderr(line: str) -> None:
    print(visible(line), file=sys.stderr, flush=True)


def progress(items: Iterable[T], total: int, what: str) -> Generator[T, None, None]:
    """The items, with a bar on stderr that goes when they are done; none without a terminal."""
    bar = _bar(BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with shown(bar):
        yield from bar.track(items, total=total, description=visible(what))


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on stderr what is being done while the body runs; nothing without a terminal."""
    bar = _bar(SpinnerColumn())
    with shown(bar):
        bar.add_task(visible(what), total=None)
        yield


_shown: list[Progress] = []
"""Displays that have begun, each within the one before it."""


@contextmanager
def shown(bar: Progress) -> Iterator[None]:
    """Show a display, and meanwhile none of those that have begun before."""
    outer = _shown[-1:]
    for other in outer:
        other.stop()
    _shown.append(bar)
    try:
        with bar:
            yield
    finally:
        _shown.remove(bar)
        for other in outer:
            if other in _shown:
                other.start()


def _bar(*columns: ProgressColumn) -> Progress:
    """A display of a text and these columns."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # What is printed meanwhile stands above the bar, unless it goes into a pipe or a file.
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


def print_origin(origin: str, *notes: str) -> None:
    """Of a network that was trained elsewhere: what it is, and what had to be assumed."""
    for line in (origin, *notes):
        print_to_stderr(f"resnetlab: {with_flags(line)}")


def with_flags(text: str) -> str:
    """Parameters in backticks as the options of a command: `val_size` as --val-size."""
    return re.sub(r"`(\w+)`", lambda name: f"--{name[1].replace('_', '-')}", text)


def print_json(value: Any) -> None:
    """JSON that strict readers take: null for a number that is not finite."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _VisibleTable(Table):
    """A table whose cells are shown, whatever characters are in them."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(visible(str(cell)) for cell in cells), **options)


def table(*columns: str) -> Table:
    """An empty table; a column whose name ends in * holds numbers.

    The columns stand in the order of their importance: where a terminal is too narrow for all of
    them, the last are left out first.
    """
    table = _VisibleTable(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column.rstrip("*"), justify="right" if column.endswith("*") else "left")
    return table


def print_table(table: Table) -> None:
    """To stdout: into a pipe or a file whole, on a terminal as wide as that is.

    There, texts wrap between words and after commas; where that is not enough, columns are left
    out from the right, and a line below names them.
    """
    console = Console(markup=False, highlight=False)  # a class may be called [bold]
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(width=10_000)).maximum
        console.print(table)
        return
    fitted, left_out = fit(table, console.width)
    console.print(fitted)
    if left_out:
        names = ", ".join(left_out)
        console.print(f"Hidden for lack of space: {names}. A wider terminal or a pipe shows them.")


def fit(whole: Table, room: int) -> tuple[Table, list[str]]:
    """The table in ``room`` columns of text, and the names of those that found no place."""
    cells = [[str(column.header), *map(str, column.cells)] for column in whole.columns]
    least = [
        max(cell_len(part.rstrip()) for text in texts for part in _parts(text)) for texts in cells
    ]
    kept = len(cells)
    while kept > 1 and _width(least[:kept]) > room:
        kept -= 1
    widths = least[:kept]
    if kept == 1:  # too wide even alone: it is folded within words
        widths = [max(1, min(least[0], room - _width([0])))]
    missing = [
        max(map(cell_len, texts)) - width for texts, width in zip(cells, widths, strict=False)
    ]
    for i in sorted(range(kept), key=missing.__getitem__):  # first those that want least
        widths[i] += min(missing[i], max(room - _width(widths), 0))
    fitted = Table(box=box.SIMPLE_HEAD)
    for column, width in zip(whole.columns, widths, strict=False):
        header = _wrap(str(column.header), width)
        fitted.add_column(header, justify=column.justify, min_width=width, overflow="fold")
    for row, texts in zip(whole.rows, list(zip(*cells, strict=True))[1:], strict=True):
        fitted.add_row(*map(_wrap, texts, widths), end_section=row.end_section)
    return fitted, [texts[0] for texts in cells[kept:]]


def _width(columns: Sequence[int]) -> int:
    """Of a table with a margin on either side of each column, and one between them."""
    return sum(columns) + 3 * len(columns) + 1


def _parts(text: str) -> list[str]:
    """A text cut where it may wrap: after spaces, and after commas that stand in no number."""
    return re.split(r"(?<= )|(?<=,)(?=\D)", text)


def _wrap(text: str, width: int) -> str:
    """The text with line breaks, so that its lines are as long as ``width`` allows."""
    lines = [""]
    for part in _parts(text):
        if lines[-1] and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
