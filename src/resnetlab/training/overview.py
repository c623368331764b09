"""All runs below a folder, and how each is getting on."""

from __future__ import annotations

import os
import platform
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resnetlab.arguments import check_types
from resnetlab.errors import UserError
from resnetlab.files import user_path
from resnetlab.runs import Run, best_epoch

FRESH = 120
"""Seconds after which a run on another machine that tells nothing is taken for stopped."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How a run is getting on."""

    path: Path
    state: Literal["running", "stopped", "finished", "damaged"]
    recipe: str | None = None
    """its name"""
    epoch: float = 0.0
    """epochs trained"""
    epochs: float | None = None
    """of the recipe"""
    val_top1: float | None = None
    """%, of the epoch that is kept in best.pt"""
    test_top1: float | None = None
    """%, of a finished run"""
    seconds_left: float | None = None
    """of a running one"""
    host: str | None = None
    """machine that a run is or was last trained on"""
    fault: str = ""
    """of a damaged one, what is wrong"""


@check_types
def list_runs(folder: str | Path = "runs") -> list[RunStatus]:
    """The runs below ``folder``, by their paths.

    Raises UserError if there is no such folder.
    """
    top = user_path(folder)
    if not top.is_dir():
        raise UserError(f"there is no folder {top}.")
    found = []
    for path, folders, files in os.walk(top):
        folders.sort()
        if "recipe.json" in files or "last.pt" in files:
            folders.clear()
            found.append(status_of(Run(path)))
    return found


def status_of(run: Run) -> RunStatus:
    """Read from the run's small files; nothing is loaded."""
    told = run.progress
    about: dict[str, Any] = {"path": run.path, "host": told.get("host")}
    try:
        recipe, _ = run.read_recipe()
        about |= {"recipe": recipe.name, "epochs": recipe.epochs}
        metrics = run.metrics if run.best_file.exists() else []  # before the first epoch: none
        epoch = metrics[-1]["epoch"] if metrics else 0.0
        if told:
            epoch = max(told["step"] / told["steps_per_epoch"], epoch)
        about["epoch"] = min(epoch, recipe.epochs)
        if metrics:
            about["val_top1"] = metrics[best_epoch(metrics)]["val_top1"]
        for file in (run.best_file, *run.states.files):
            if file.exists() and not zipfile.is_zipfile(file):
                raise UserError(f"{file} is damaged.")
        result = run.result
    except (UserError, KeyError, TypeError, AttributeError) as error:
        return RunStatus(state="damaged", fault=str(error), **about)
    if _is_running(run, told):
        left = told.get("seconds_left")
        return RunStatus(state="running", seconds_left=left, **about)
    if result is None:
        return RunStatus(state="stopped", **about)
    return RunStatus(state="finished", test_top1=result.get("top1"), **about)


def _is_running(run: Run, told: dict[str, Any]) -> bool:
    if told.get("host") == platform.node():
        return run.is_being_trained
    return bool(told) and time.time() - told["time"] < FRESH
