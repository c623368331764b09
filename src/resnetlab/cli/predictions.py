"""Predictions as a table, JSON or CSV, each printed as it comes."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import textwrap
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len, chop_cells, set_cell_size

from resnetlab.console import print_to_stderr, visible

if TYPE_CHECKING:
    from resnetlab.inference.predictor import Prediction

Format = Literal["table", "json", "csv"]
Printer = Generator["Callable[[Prediction], None]", None, None]
NONE = "none of these"
HEADINGS = ("image", "prediction", "confidence", "then (%)")
_LEAST = 24
"""Columns of text that the last column of a table has on a narrow terminal."""


def print_predictions(
    predictions: Iterable[Prediction],
    format: Format,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    topk: int,
) -> int:
    """Print to stdout as they come, and to stderr a line for each image that could not be read.

    Args:
        predictions: Printed one by one; what interrupts them leaves whole what was printed.
        names: Of all images, and ``classes`` of all classes: what a table's columns hold.
        topk: Classes an image.

    Returns:
        The number of images that could not be read.
    """
    failed = 0
    if format == "table":
        printer = _table_printer(names, classes, topk)
    else:
        printer = _json_printer() if format == "json" else _csv_printer()
    with printer as show:
        for prediction in predictions:
            show(prediction)
            if prediction.error:
                failed += 1
                print_to_stderr(prediction.error)
    return failed


@contextmanager
def _json_printer() -> Printer:
    """A list of {image, predictions: [{class, probability}], none_of_these, error}; in %."""
    opened = False

    def show(prediction: Prediction) -> None:
        nonlocal opened
        top = [{"class": name, "probability": round(p, 4)} for name, p in prediction.top]
        value = {"image": prediction.path, "predictions": top}
        value |= {"none_of_these": prediction.none_of_these, "error": prediction.error}
        _write(("," if opened else "[") + "\n" + textwrap.indent(json.dumps(value, indent=2), "  "))
        opened = True

    try:
        yield show
    finally:  # after Ctrl-C too, so that what was printed is a list
        _write("\n]\n" if opened else "[]\n")


@contextmanager
def _csv_printer() -> Printer:
    """Tidy rows for pandas: image, rank (from 1), class, probability in %, none_of_these (0 or 1).

    Unreadable images have no row, so that every column keeps its type.
    """

    def show_row(*values: Any) -> None:
        row = io.StringIO()
        csv.writer(row, lineterminator="\n").writerow(values)
        _write(row.getvalue())

    def show(prediction: Prediction) -> None:
        for rank, (name, p) in enumerate(prediction.top, 1):
            none = int(prediction.none_of_these)
            show_row(_encodable(prediction.path), rank, name, round(p, 4), none)

    show_row("image", "rank", "class", "probability", "none_of_these")
    yield show


@contextmanager
def _table_printer(names: Sequence[str], classes: Sequence[str], topk: int) -> Printer:
    """A row an image that could be read; on a terminal, long cells take several lines of it."""
    headings = HEADINGS if min(topk, len(classes)) > 1 else HEADINGS[:-1]
    held = [map(visible, names), [*map(visible, classes), NONE], ["100.0 %"]]
    widths = [
        max(map(cell_len, [heading, *texts]))
        for heading, texts in zip(HEADINGS, held, strict=False)
    ]
    if len(headings) > len(widths):
        widths.append(sys.maxsize)  # nothing stands to the right of it
    if sys.stdout.isatty():
        _fit(widths, get_terminal_size().columns)
    started = False

    def show(prediction: Prediction) -> None:
        nonlocal started
        if not prediction.top:
            return
        if not started:
            header = _row([[heading] for heading in headings], widths)
            _write(header + "-" * max(map(cell_len, header.splitlines())) + "\n")
            started = True
        (first, confidence), *others = prediction.top
        if prediction.none_of_these:
            first, others = NONE, prediction.top
        then = ", ".join(f"{visible(name)} {p:.1f}" for name, p in others)
        cells = [
            re.split(r"(?<=/)", visible(prediction.path)),
            re.split(r"(?<= )", visible(first)),
            [f"{confidence:.1f} %"],
            re.split(r"(?<=\d, )", then),
        ]
        _write(_row(cells[: len(widths)], widths))

    yield show


def _fit(widths: list[int], room: int) -> None:
    """Make the columns, in place, as narrow as a terminal of ``room`` columns of text needs."""
    left = room - widths[2] - 2 * (len(widths) - 1)
    widths[1] = max(8, min(widths[1], left // 3))
    least = _LEAST if len(widths) > 3 else 0
    widths[0] = max(8, min(widths[0], left - widths[1] - least))
    if len(widths) > 3:
        widths[3] = max(8, left - widths[0] - widths[1])


def _row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    """Cells, each in the parts that it may be broken between, as one or more lines of text."""
    folded = [_fold(parts, width) for parts, width in zip(cells, widths, strict=True)]
    lines = []
    for image, prediction, confidence, *then in zip_longest(*folded, fillvalue=""):
        padded = [set_cell_size(image, widths[0]), set_cell_size(prediction, widths[1])]
        lines.append("  ".join([*padded, confidence.rjust(widths[2]), *then]).rstrip())
    return "".join(f"{line}\n" for line in lines)


def _fold(parts: Sequence[str], width: int) -> list[str]:
    """Lines as long as ``width`` allows, broken between parts or, if one is longer, within it."""
    lines = [""]
    for part in parts:
        if cell_len(lines[-1] + part.rstrip()) <= width:
            lines[-1] += part
        else:
            lines += chop_cells(part, width)
    return [line.rstrip() for line in lines if line.strip()]


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _encodable(text: str) -> str:
    # File names that are not UTF-8 come as lone surrogates, which no stream accepts.
    return text.encode("utf-8", "backslashreplace").decode()
