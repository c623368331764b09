"""What the finished runs of a study say: mean and deviation over seeds, a row for each variant."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.files import atomic_write
from resnetlab.models.architecture import Architecture
from resnetlab.models.summary import count_parameters, on_meta
from resnetlab.runs import Run
from resnetlab.study.table import PlannedRun, Variant


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of several runs' values."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """NaN of fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        if not self.values:
            return "-"
        around = "" if math.isnan(self.deviation) else f" ± {self.deviation:.2f}"
        return f"{self.mean:.2f}{around}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The finished runs of one variant, seed by seed."""

    variant: Variant
    architecture: Architecture
    train_size: int | None
    """training images; None: all"""
    histories: tuple[Sequence[Mapping[str, Any]], ...]
    """the lines of metrics.jsonl of each run"""
    results: tuple[Mapping[str, Any], ...]
    """what test.json says of each"""

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def n(self) -> int:
        """Runs."""
        return len(self.results)

    @property
    def parameters(self) -> int:
        return count_parameters(on_meta(self.architecture))

    @property
    def epochs(self) -> list[int]:
        """At whose ends the curves have their points."""
        return [line["epoch"] for line in self.histories[0]]

    def curves(self, split: str) -> np.ndarray:
        """Errors of "train" or "val" in %, (runs, epochs); NaN where there is no validation."""
        key = f"{split}_top1"
        return np.array(
            [[_error(line.get(key)) for line in history] for history in self.histories], float
        )

    def last(self, split: str) -> Spread:
        """The error of the last epoch in %."""
        return Spread(tuple(x for x in self.curves(split)[:, -1].tolist() if not math.isnan(x)))

    @property
    def test(self) -> Spread:
        """The error on the test set in %, of the network that each run has kept."""
        return Spread(tuple(_error(result.get("top1")) for result in self.results))

    @property
    def minutes(self) -> Spread:
        """Of the epochs' steps."""
        return Spread(tuple(sum(x["seconds"] for x in lines) / 60 for lines in self.histories))

    def cells(self) -> dict[str, str]:
        """Heading -> cell; that of a number ends in ``*``."""
        return {
            "variant": self.name,
            "n*": str(self.n),
            "training error %*": str(self.last("train")),
            "validation error %*": str(self.last("val")),
            "test error %*": str(self.test),
            "parameters*": f"{self.parameters:,}",
            "layers*": str(self.architecture.num_layers),
            "minutes*": str(self.minutes),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the table's file; deviations of one run are empty."""
        values: dict[str, Any] = {"variant": self.name, "n": self.n}
        for name, spread in (
            ("training_error", self.last("train")),
            ("validation_error", self.last("val")),
            ("test_error", self.test),
            ("minutes", self.minutes),
        ):
            for part, number in (("", spread.mean), ("_deviation", spread.deviation)):
                values[name + part] = None if math.isnan(number) else round(number, 4)
        return values | {
            "parameters": self.parameters,
            "layers": self.architecture.num_layers,
            "training_images": self.train_size,
        }


def _error(top1: float | None) -> float:
    return math.nan if top1 is None else 100 - top1


def summarize_runs(runs: Sequence[PlannedRun], folder: Path) -> list[Row]:
    """A row for each variant that has a finished run, in the study's order."""
    finished: dict[str, list[tuple[PlannedRun, Run]]] = {}
    for planned in runs:
        run = Run(folder / planned.name)
        if run.exists and run.result is not None and run.metrics:
            finished.setdefault(planned.variant.name, []).append((planned, run))
    return [_row([run for _, run in found], found[0][0].variant) for found in finished.values()]


def _row(runs: Sequence[Run], variant: Variant) -> Row:
    return Row(
        variant=variant,
        architecture=runs[0].best.architecture,
        train_size=runs[0].recipe.train_size,
        histories=tuple(run.metrics for run in runs),
        results=tuple(run.result or {} for run in runs),
    )


def write_table(rows: Sequence[Row], path: Path) -> None:
    """A CSV file, a line for each row; atomically."""
    values = [row.to_dict() for row in rows]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(values[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(values)
