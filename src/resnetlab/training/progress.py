"""What a person sees of a training: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

PLAIN_SECONDS = 30
"""Between two plain lines within an epoch, where there is no terminal."""

PAST = 0.2
"""What the steps before an epoch count in it, where the time left is reckoned."""


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class TrainingProgress:
    """A context that is told of every step and epoch, and prints for rank 0 alone.

    The time left is what the steps and the validations of this session took, times what is left
    of them; the first ``early_steps`` take ``early_cost`` of the time of the others. Steps of past
    epochs soon count for little: the first one decodes images and warms up.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        enabled: bool,
        early_steps: int = 0,
        early_cost: float = 1.0,
    ) -> None:
        self.console = Console(stderr=True, quiet=not enabled)
        self.live = self.console.is_terminal and enabled
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.early_steps, self.early_cost = early_steps, early_cost
        self.epochs = -(-total_steps // steps_per_epoch)
        self.step_seconds = self.other_seconds = 0.0
        self.work = 0.0
        self.validations = 0
        self.done = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self._task = self._bar.add_task("", total=total_steps, text="")
        self._last_line = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._bar.stop()

    def due(self) -> bool:
        """Whether a step's figures would be shown, so that they are worth computing."""
        return time.monotonic() - self._last_line >= (0.2 if self.live else PLAIN_SECONDS)

    def count_step(self, done: int, seconds: float) -> None:
        """One more step of this session; ``done`` of all sessions."""
        if self.done and self.done % self.steps_per_epoch == 0:
            self.work *= PAST
            self.step_seconds *= PAST
        self.done = done
        self.work += self._work(done) - self._work(done - 1)
        self.step_seconds += seconds

    def count_validation(self, seconds: float) -> None:
        self.validations += 1
        self.other_seconds += seconds

    def _work(self, steps: int) -> float:
        """Of the first ``steps`` steps, in steps of full cost."""
        return steps - (1 - self.early_cost) * min(steps, self.early_steps)

    def seconds_left(self) -> float:
        if self.done == self.total_steps:
            return 0.0
        work = self._work(self.total_steps) - self._work(self.done)
        steps = work * self.step_seconds / self.work if self.work else 0.0
        validations = self.epochs - self.done // self.steps_per_epoch
        return steps + validations * self.other_seconds / max(1, self.validations)

    def show_step(self, loss: float, images_per_second: float) -> None:
        """The line within an epoch."""
        self._last_line = time.monotonic()
        epoch, step = divmod(self.done - 1, self.steps_per_epoch)
        where = f"epoch {epoch + 1}/{self.epochs}  step {step + 1}/{self.steps_per_epoch}"
        figures = f"loss {loss:.3f}  {images_per_second:,.0f} images/s"
        text = f"{figures}  {clock(self.seconds_left())} left"
        if self.live:
            self._bar.update(self._task, completed=self.done, description=where, text=text)
        else:
            self.say(f"{where}  {text}")

    def show_epoch(self, line: dict[str, Any]) -> None:
        """The line that stays after an epoch."""
        self._last_line = time.monotonic()
        width = len(str(self.epochs))
        parts = [f"epoch {line['epoch']:>{width}}/{self.epochs}", f"lr {line['lr']:.4f}"]
        parts.append(f"train loss {line['train_loss']:.3f} top-1 {line['train_top1']:5.2f} %")
        if line["val_top1"] is not None:
            parts.append(f"val loss {line['val_loss']:.3f} top-1 {line['val_top1']:5.2f} %")
        parts.append(f"{line['images_per_second']:,.0f} images/s")
        parts.append(f"{clock(self.seconds_left())} left")
        self.say("  ".join(parts))

    def show_head(self, line: dict[str, Any]) -> None:
        """The line of a classifier that was fitted before the first step."""
        parts = [f"classifier fitted in {clock(line['seconds'])}, the rest untouched:"]
        parts.append(f"train top-1 {line['train_top1']:.2f} %")
        if line["val_top1"] is not None:
            parts.append(f"val loss {line['val_loss']:.3f} top-1 {line['val_top1']:.2f} %")
        self.say("  ".join(parts))

    def say_where(self, done: int) -> None:
        """Where a resumed training goes on."""
        epoch = min(done // self.steps_per_epoch + 1, self.epochs)
        self.say(
            f"resuming after step {done:,} of {self.total_steps:,}, in epoch {epoch} of "
            f"{self.epochs}"
        )

    def say(self, text: str) -> None:
        """A line of its own, above the live one; lost where the terminal is gone or the disk full.

        The training is worth more than its log.
        """
        with suppress(OSError):
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)
