"""What is printed for people: tables and JSON on stdout, reports on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Report = Callable[[str], None]
"""What long work tells of itself, a line at a time."""


def print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
