"""What the recipes reach: each run is listed once, and every published figure follows from it.

``runs.csv`` holds the runs, ``timings.csv`` those that were timed as a whole, beside the plain
loop. The help texts, README.md and benchmarks/README.md are written from here (`make figures`).
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnetlab.models.architecture import PUBLISHED

PROGRAMS = ("eager", "fused", "winograd 1", "winograd 2", "winograd 3")
"""States of the program that runs were made with, the latest last."""


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """One run, ``resnetlab train RECIPE --seed SEED``; accuracies in %."""

    recipe: str
    seed: int
    program: str
    """one of ``PROGRAMS``"""
    threads: int
    seconds: int | None
    """of the epochs, without reading the data and testing; None: not timed so"""
    validation: float | None
    """of the epoch with the best validation accuracy; None: trained on all images"""
    test: float
    augmented: float | None
    """on the test set with test-time augmentation; None: the recipe has none"""
    changes: str | None
    """further options of the command"""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A whole training, data and test included (``python -m benchmarks.recipe_time RECIPE``)."""

    recipe: str
    seed: int
    program: str
    threads: int
    seconds: int
    test: float
    """accuracy in %"""
    plain_before: float | None
    """images/s of the plain loop just before the training; None: not measured"""
    plain_after: float | None
    """and just after it"""
    times: float | None
    """what the plain loop takes for the paper's 64,000 steps, divided by what the training took"""


@dataclass(frozen=True)
class Score:
    """Mean and standard deviation of several runs' accuracies in %."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, accuracies: Sequence[float]) -> Score:
        return cls(statistics.fmean(accuracies), statistics.stdev(accuracies))


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Of the trainings by the latest program, shortest and longest, in seconds."""

    shortest: int
    longest: int
    threads: int
    includes: str
    """what was timed"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a recipe reaches on the test set, how long it takes, and on what."""

    recipe: str
    program: str | None = None
    """whose runs count; None: those of all states of the program"""
    peak_memory_gb: float
    reference: str = ""
    """what it is compared with, and the accuracy of that"""
    machine: str = "two cores of an AMD EPYC with AVX-512 BF16"
    torch: str = "2.14.1"
    version: str = "0.1.0"
    date: str = "2026-11-22"

    def counts(self, run: MeasuredRun) -> bool:
        same = run.recipe == self.recipe and run.changes is None
        return same and self.program in (None, run.program)

    @property
    def runs(self) -> list[MeasuredRun]:
        """Those that count."""
        return [run for run in RUNS if self.counts(run)]

    @property
    def seeds(self) -> int:
        """Different ones among the runs."""
        return len({run.seed for run in self.runs})

    @property
    def top1(self) -> Score:
        return Score.of([run.test for run in self.runs])

    @property
    def augmented(self) -> Score | None:
        """``top1`` with test-time augmentation; None: the recipe has none."""
        accuracies = [run.augmented for run in self.runs if run.augmented is not None]
        return Score.of(accuracies) if accuracies else None

    @property
    def duration(self) -> Duration:
        """Of whole trainings where those were timed, else of the epochs."""
        whole = [(each.seconds, each.threads) for each in TIMINGS if self._is_latest(each)]
        latest = [run for run in self.runs if self._is_latest(run)]
        timed = sorted(whole or [(run.seconds, run.threads) for run in latest if run.seconds])
        return Duration(
            shortest=timed[0][0],
            longest=timed[-1][0],
            threads=timed[0][1],
            includes="data and test included" if whole else "training alone",
        )

    def _is_latest(self, run: MeasuredRun | Timing) -> bool:
        return run.recipe == self.recipe and run.program == PROGRAMS[-1]

    def __str__(self) -> str:
        """For the help, as "Test accuracy 90.29 % (standard deviation 0.15, 8 runs) in ..."."""
        top1, augmented, duration = self.top1, self.augmented, self.duration
        text = f"Test accuracy {top1.mean:.2f} % "
        text += f"(standard deviation {top1.deviation:.2f}, {len(self.runs)} runs)"
        if augmented:
            text += (
                f", {augmented.mean:.2f} % ({augmented.deviation:.2f}) with test-time augmentation,"
            )
        low, high = round(duration.shortest / 60), round(duration.longest / 60)
        minutes = f"{low}" if low == high else f"{low} to {high}"
        where = self.machine if duration.threads > 1 else f"one of {self.machine}"
        text += f" in {minutes} minutes on {where}, torch {self.torch}"
        return f"{text}. {self.reference}" if self.reference else text


def _rows(name: str) -> Iterator[dict]:
    """The lines of a table beside this file: numbers as such, None where a cell is empty."""

    def value(text: str) -> int | float | str | None:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                pass
        return text or None

    with (Path(__file__).parent / name).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {key: value(text) for key, text in row.items()}


RUNS = tuple(MeasuredRun(**row) for row in _rows("runs.csv"))
"""Every run that was recorded."""
TIMINGS = tuple(Timing(**row) for row in _rows("timings.csv"))
"""Every whole training that was timed."""

PAPER = f"The paper: {100 - (PUBLISHED['resnet20'].error or 0):.2f} %"
"""Its ResNet-20 on CIFAR-10's test set."""
MEASURED = {
    each.recipe: each
    for each in (
        Measured(recipe="cifar10-quick", peak_memory_gb=1.2),
        Measured(
            recipe="cifar10-resnet20",
            program="winograd 3",
            peak_memory_gb=1.1,
            reference=PAPER,
        ),
        Measured(recipe="cifar10-resnet20-best", peak_memory_gb=1.1, reference=PAPER),
        Measured(recipe="cifar10-94", program="winograd 3", peak_memory_gb=1.4),
        Measured(recipe="cifar10-95", peak_memory_gb=1.4),
        Measured(
            recipe="cifar10-resnet50-textbook",
            peak_memory_gb=1.4,
            reference="The exercise that it replaces, fine-tuned for 40 epochs: 75.4 %",
        ),
        Measured(recipe="fashion-mnist-quick", program="winograd 3", peak_memory_gb=1.2),
        Measured(
            recipe="fashion-mnist-textbook",
            peak_memory_gb=1.4,
            reference="The exercise that it replaces: 89.3 %",
        ),
    )
}
"""Name of a recipe -> what it reaches."""
