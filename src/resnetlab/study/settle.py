"""How long a study's trainings are: as asked, as recorded before, or as a budget allows."""

from __future__ import annotations

import bisect
import heapq
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnetlab.compute.machine import available_cores
from resnetlab.console import waiting
from resnetlab.errors import UserError
from resnetlab.files import reading, write_json
from resnetlab.recipes.record import Recipe
from resnetlab.study.table import PlannedRun, Study, planned_runs
from resnetlab.training.plan import load_data

OVERHEAD = 20.0
"""Seconds that a run takes beside its epochs: to start, to read the data, to test."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is settled before the first run of a study and kept beside its runs."""

    epochs: float
    seeds: int


def settle(
    study: Study,
    folder: Path,
    *,
    epochs: float | None,
    budget: float | None,
    seeds: int | None,
    jobs: int,
) -> Extent:
    """The extent of a study, written to its folder.

    A folder that has one keeps its epochs; more seeds may be asked of it. Raises UserError for
    other epochs than the folder's, a number below 1, and a ``budget`` (seconds) that is too small.
    """
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value is not None and value < 1:
            raise UserError(f"`{name}` must be at least 1, not {value}.")
    if epochs is not None and not epochs > 0:
        raise UserError(f"`epochs` must be greater than 0, not {epochs}.")
    if epochs and budget:
        raise UserError("give `epochs` or a `budget`, not both.")
    file = folder / "study.json"
    known = _read(file, study)
    if known and epochs and known.epochs != epochs:
        raise UserError(
            f"`out` {folder} holds a study of {known.epochs:g} epochs; leave `epochs` out, or name "
            "another folder."
        )
    seeds = max(seeds or (known.seeds if known else study.seeds), known.seeds if known else 1)
    if known:
        epochs = known.epochs
    elif budget:
        epochs = epochs_within(budget, study, seeds=seeds, jobs=jobs)
    settled = Extent(epochs=epochs or study.epochs or study.recipe.epochs, seeds=seeds)
    if settled != known:
        write_json(file, {"study": study.name, "epochs": settled.epochs, "seeds": settled.seeds})
    return settled


def _read(file: Path, study: Study) -> Extent | None:
    with reading(file):
        if not file.exists():
            return None
        text = file.read_text(encoding="utf-8")
    try:
        values = json.loads(text)
        name, extent = values["study"], Extent(epochs=values["epochs"], seeds=values["seeds"])
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); remove it.") from error
    if name != study.name:
        raise UserError(f"`out` {file.parent} holds the study {name}; name another folder.")
    return extent


def epochs_within(budget: float, study: Study, *, seeds: int, jobs: int) -> int:
    """The most epochs with which all runs end within so many seconds on this machine.

    Each variant's speed is measured, in a process with as many threads as its runs will have; the
    time for that is part of the budget.
    """
    began = time.monotonic()
    costs: dict[str, float] = {}

    def duration(epochs: float) -> float:
        runs = planned_runs(study, epochs, seeds)
        for run in runs:
            if run.variant.name not in costs:
                costs[run.variant.name] = _seconds_per_epoch(run, jobs)
        seconds = [OVERHEAD + run.recipe.epochs * costs[run.variant.name] for run in runs]
        return makespan(seconds, jobs)

    least = duration(1)
    measuring = int(time.monotonic() - began)
    if least > budget - measuring:
        raise UserError(
            f"`budget` is too small: with 1 epoch this study takes about {least / 60:.0f} minutes "
            f"here (measuring that took {measuring / 60:.0f}); give more, or fewer `seeds`."
        )
    budget -= measuring
    epochs = 1
    while duration(2 * epochs) <= budget:
        epochs *= 2
    return bisect.bisect_right(range(2 * epochs), budget, lo=epochs, key=duration) - 1


def makespan(durations: Sequence[float], jobs: int) -> float:
    """When the last of the runs ends if ``jobs`` at a time are begun in this order."""
    ends = [0.0] * jobs
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def _seconds_per_epoch(run: PlannedRun, jobs: int) -> float:
    recipe = run.recipe
    with waiting(f"measuring the speed of {run.variant.name}"):
        train, val = load_data(recipe)
        rate = _images_per_second(recipe, jobs)
    size = train.preprocessing.size
    saved = recipe.early_share * (1 - ((recipe.early_size or size) / size) ** 2)
    # A validation image is a forward pass, a training image three.
    return (len(train) * (1 - saved) + (len(val) / 3 if val else 0)) / rate


def _images_per_second(recipe: Recipe, jobs: int) -> float:
    """Of the training loop's steps, measured by ``resnetlab benchmark training``."""
    words = ["--models", recipe.model, "--batch-sizes", recipe.batch_size, "--recipe", recipe.name]
    words += ["--steps", 8, "--execution", recipe.execution, "--json"]
    if recipe.model_overrides:
        words += ["--override", *itertools.chain(*recipe.model_overrides.items())]
    done = subprocess.run(
        [sys.executable, "-m", "resnetlab", "benchmark", "training", *map(str, words)],
        env=os.environ | threads_of(jobs),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(f"the speed of {recipe.model} cannot be measured: {done.stderr.strip()}")
    return json.loads(done.stdout)["rows"][0]["images_per_second"]


def threads_of(jobs: int) -> dict[str, str]:
    """What tells each of several trainings, side by side, its share of the cores."""
    return {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, available_cores() // jobs))}
