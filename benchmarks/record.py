"""Runs that are kept, a line of a CSV file each, so that none is repeated."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any


def lines(record: Path) -> list[dict[str, str]]:
    """The lines, as text; none where there is no such file."""
    if not record.exists():
        return []
    with record.open(newline="") as file:
        return list(csv.DictReader(file))


def append(record: Path, result: Any) -> None:
    """Write a dataclass as the last line."""
    new = not record.exists()
    with record.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(result)))
        if new:
            writer.writeheader()
        writer.writerow(asdict(result))
