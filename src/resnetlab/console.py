"""What is printed for people: tables and JSON on stdout, reports on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

T = TypeVar("T")

Report = Callable[[str], None]
"""What long work tells of itself, a line at a time."""


def print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def progress(items: Iterable[T], total: int, what: str) -> Generator[T, None, None]:
    """The items, with a bar on stderr that goes when they are done; none without a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # What is printed meanwhile stands above the bar, unless it goes into a pipe or a file.
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        yield from bar.track(items, total=total, description=what)


def table(*columns: str) -> Table:
    """An empty table; a column whose name ends in * holds numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column.rstrip("*"), justify="right" if column.endswith("*") else "left")
    return table


def print_table(table: Table) -> None:
    """To stdout, at the width of the terminal; into a pipe or a file whole, whatever its width."""
    console = Console(markup=False)  # a class may be called [bold]
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.print(table)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
