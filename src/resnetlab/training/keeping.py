"""What must not be lost of a training: its epochs, and checkpoints within them."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from resnetlab.compute.distributed import World
from resnetlab.compute.machine import processor
from resnetlab.data.dataset import Dataset
from resnetlab.data.encoded import fingerprint
from resnetlab.evaluation.calibration import calibrated_by
from resnetlab.files import WriteError
from resnetlab.runs import Run, best_epoch
from resnetlab.training.events import Events
from resnetlab.training.faults import not_finite
from resnetlab.training.pixels import source_of
from resnetlab.training.plan import Plan
from resnetlab.training.progress import TrainingProgress
from resnetlab.training.state import State
from resnetlab.weights.checkpoint import Checkpoint
from resnetlab.weights.digest import digest

PROGRESS_SECONDS = 10
"""Between two writings of progress.json."""

_GO_ON, _CHECKPOINT, _STOP, _DIVERGED = range(4)
"""What a rank wants between two steps; all do what the most urgent of them wants."""


class Keeper:
    """Writes a training to its run folder: from rank 0, at the same step of all ranks."""

    def __init__(
        self, plan: Plan, state: State, run: Run, world: World, progress: TrainingProgress
    ) -> None:
        self.plan, self.state, self.run = plan, state, run
        self.world, self.progress = world, progress
        told = state.history[-1]["step"] if state.history else 0
        self._events = Events(run.tensorboard, told + 1, progress.say)
        self._written = time.monotonic()
        self._data = data_digest(plan.data) if world.is_main else ""
        self._told = -math.inf
        self._tell_progress()

    def between_steps(self, *, asked: bool, finite: bool) -> None:
        """A checkpoint if it is time for one; it is the last one if a rank was asked to stop.

        Raises, on every rank, KeyboardInterrupt when the state has been saved for that, and
        UserError where a loss is no longer finite.
        """
        self._tell_progress()
        wants = _CHECKPOINT if self._is_due() else _GO_ON
        if not finite:
            wants = _DIVERGED
        elif asked:
            wants = _STOP
        wants = self.world.largest(wants)
        if wants == _GO_ON:
            return
        self._check_finite()
        try:
            self.save()
        except WriteError as error:
            if wants == _STOP:
                raise
            self.progress.say(f"{error.fault}; the training goes on from the checkpoint before it")
        if wants == _STOP:
            raise KeyboardInterrupt(
                f"stopped after step {self.state.step:,} of {self.plan.total_steps:,}; nothing is "
                f"lost. Go on with: {self.run.resume_command()}"
            )

    def _tell_progress(self) -> None:
        """Now and then, for ``resnetlab runs``."""
        if not self.world.is_main or time.monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told = time.monotonic()
        self.run.tell_progress(
            {
                "step": self.state.step,
                "total_steps": self.plan.total_steps,
                "steps_per_epoch": self.plan.steps_per_epoch,
                "seconds_left": self.progress.seconds_left() if self.progress.done else None,
                "host": platform.node(),
                "time": time.time(),
            }
        )

    def _is_due(self) -> bool:
        minutes = self.plan.recipe.checkpoint_minutes
        passed = time.monotonic() - self._written
        return self.world.is_main and 0 < minutes * 60 <= passed

    def _check_finite(self, line: Mapping[str, Any] | None = None) -> None:
        """Raise UserError, on every rank, for a state that must not be kept."""
        loss = self.world.sum(self.state.sums.clone())[0].item()
        names = {"the loss is": loss, "the validation loss is": (line or {}).get("val_loss")}
        for what, value in names.items():
            if not math.isfinite(value or 0.0):
                raise not_finite(self.plan, self.state.step, what, self.run)
        if not all(bool(weights.isfinite().all()) for weights in self.state.model.parameters()):
            raise not_finite(self.plan, self.state.step, "the weights are", self.run)

    def keep_epoch(self, line: Mapping[str, Any]) -> None:
        """Write best.pt if the epoch is the best so far, its line of metrics, and last.pt."""
        state = self.state
        self._check_finite(line)
        state.history.append(dict(line))
        if state.step % self.plan.steps_per_epoch == 0:
            # What ends within an epoch may be trained further, and then has one line for it.
            state.begin_epoch()
        sums = self.world.gather(state.sums)
        self.world.from_main(self._keep, sums)
        self._written = time.monotonic()

    def _keep(self, sums: Tensor) -> None:
        line = self.state.history[-1]
        if best_epoch(self.state.history) == len(self.state.history) - 1:
            model = self.state.evaluated
            best = Checkpoint(
                architecture=model.architecture,
                weights=model.state_dict(),
                classes=self.plan.data.classes,
                preprocessing=self.plan.data.preprocessing,
                dataset=self.plan.recipe.dataset,
                metrics=line,
                recipe=self.plan.recipe.to_dict(),
            )
            if self.state.step == 0 and self.state.val_logits:
                best = calibrated_by(best, *self.state.val_logits)
            best.save(self.run.best_file)
        try:
            self.run.write_metrics(self.state.history)
        except WriteError as error:  # the state has the same lines
            self.progress.say(f"{error.fault}; the training goes on without it")
        self._events.add(line)
        # Last, so that a run killed between two of these files does the epoch again.
        self._save(sums)

    def save(self) -> None:
        """Write last.pt: the state, and what its continuation must not change unawares."""
        sums = self.world.gather(self.state.sums)
        try:
            self.world.from_main(self._save, sums)
        finally:
            self._written = time.monotonic()

    def _save(self, sums: Tensor) -> None:
        about = {
            "recipe": self.plan.recipe.to_dict(),
            "processes": self.world.size,
            "processor": processor(),
            "data": self._data,
        }
        self.run.states.write(self.state.to_dict() | {"sums": sums} | about)


def data_digest(dataset: Dataset) -> str:
    """What tells whether these are the same samples in the same order."""
    about: dict[str, Any] = {"labels": dataset.labels, "classes": dataset.classes}
    if (source := source_of(dataset)) is not None:
        about["files"] = fingerprint(source)
    return digest(about)


def sums_of(saved: Mapping[str, Any], world: World) -> Tensor:
    """This rank's sums of the epoch, (3,); of another number of ranks, rank 0 goes on with all."""
    sums = saved["sums"].view(-1, 3)  # of version 0.1.0: those of all ranks together
    if len(sums) == world.size:
        return sums[world.rank]
    return sums.sum(0) if world.is_main else torch.zeros_like(sums[0])
