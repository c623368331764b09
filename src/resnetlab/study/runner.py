"""Carries out a study's trainings: ordinary runs, each in a process, several side by side."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from resnetlab.console import print_to_stderr, shown
from resnetlab.errors import UserError
from resnetlab.files import reading
from resnetlab.recipes.command import train_command
from resnetlab.runs import Run
from resnetlab.study.settle import threads_of
from resnetlab.study.table import PlannedRun
from resnetlab.training.interrupt import stop_signal
from resnetlab.training.progress import clock
from resnetlab.training.resuming import NEUTRAL, differences

POLL = 0.3
"""Seconds between two looks at the processes."""


def check_runs(runs: Sequence[PlannedRun], folder: Path) -> None:
    """UserError where the folder of a planned run holds one of another recipe.

    On the execution, the name and where the data lie nothing depends.
    """
    for planned in runs:
        run = Run(folder / planned.name)
        if not run.exists:
            continue
        edits = differences(run.recipe, planned.recipe)
        edits = [text for name, text in edits.items() if name not in (*NEUTRAL, "execution")]
        if edits:
            raise UserError(
                f"`out` {run.path} holds another run ({', '.join(edits)}); name another folder."
            )


def unfinished(runs: Sequence[PlannedRun], folder: Path) -> list[PlannedRun]:
    return [planned for planned in runs if Run(folder / planned.name).result is None]


def command(planned: PlannedRun, folder: Path) -> list[str]:
    """The words that begin a planned run, or go on with it."""
    run = Run(folder / planned.name)
    if run.exists:
        return ["resnetlab", "resume", str(run.path)]
    return train_command(planned.recipe, out=run.path)


def run_all(runs: Sequence[PlannedRun], folder: Path, jobs: int) -> list[str]:
    """Train what is not finished, ``jobs`` runs at a time; what failed, a sentence each.

    Raises KeyboardInterrupt after Ctrl-C, when all of them have saved their state.
    """
    todo = unfinished(runs, folder)
    done = len(runs) - len(todo)
    failures: list[str] = []
    active: list[_Job] = []
    with _Display(len(runs), done) as display, _ended(active), stop_signal(display.say) as stop:
        while (todo or active) and not stop.is_set():
            while todo and len(active) < jobs:
                active.append(_Job.begin(todo.pop(0), folder, jobs))
                display.begin(active[-1])
            time.sleep(POLL)
            for job in list(active):
                display.update(job)
                if job.process.poll() is not None:
                    active.remove(job)
                    failures += job.failure()
                    display.end(job)
        if stop.is_set():
            raise KeyboardInterrupt("stopped; nothing is lost. Go on with the same command.")
    return failures


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A training at work."""

    planned: PlannedRun
    run: Run
    process: subprocess.Popen[bytes]
    log: Path
    began: float

    @classmethod
    def begin(cls, planned: PlannedRun, folder: Path, jobs: int) -> _Job:
        log = folder / f"{planned.name}.log"
        words = [sys.executable, "-m", *command(planned, folder)]
        with log.open("ab") as output:
            # In a session of its own: Ctrl-C is passed on once, by us.
            process = subprocess.Popen(
                words,
                env=os.environ | threads_of(jobs),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        run = Run(folder / planned.name)
        return cls(planned=planned, run=run, process=process, log=log, began=time.monotonic())

    def failure(self) -> Iterator[str]:
        """Nothing, or what the training said at its end."""
        if self.process.returncode:
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = last[-1].removeprefix("resnetlab: ") if last else "without a word"
            yield f"{self.planned.name}: {reason} (all of it: {shlex.quote(str(self.log))})"


@contextmanager
def _ended(active: list[_Job]) -> Iterator[None]:
    """Whatever ends the body, the trainings at work save their state and end too."""
    try:
        yield
    finally:
        while running := [job for job in active if job.process.poll() is None]:
            for job in running:
                job.process.send_signal(signal.SIGINT)
            for job in running:
                job.process.wait()


class _Display(ExitStack):
    """The runs at work on a terminal; elsewhere a line for each that ends."""

    def __init__(self, total: int, done: int) -> None:
        super().__init__()
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.total, self.done = total, done
        self.tasks: dict[str, TaskID] = {}
        self.whole = self.bar.add_task("runs", total=total, completed=done, text="")

    def __enter__(self) -> _Display:
        self.enter_context(shown(self.bar))
        return self

    def say(self, text: str) -> None:
        print_to_stderr(text)

    def begin(self, job: _Job) -> None:
        name = job.planned.name
        self.tasks[name] = self.bar.add_task(name, total=job.planned.recipe.epochs, text="")
        self._count()

    def update(self, job: _Job) -> None:
        """How far it is, by the epochs that it has written down."""
        lines = _epochs(job.run)
        if lines:
            error = f"training error {100 - lines[-1]['train_top1']:.2f} %"
            self.bar.update(self.tasks[job.planned.name], completed=len(lines), text=error)

    def end(self, job: _Job) -> None:
        self.bar.remove_task(self.tasks.pop(job.planned.name))
        result = None if job.process.returncode else job.run.result
        self.done += result is not None
        self._count()
        took = clock(time.monotonic() - job.began)
        what = f"test error {100 - result['top1']:.2f} %" if result else "failed"
        self.say(f"{job.planned.name}: {what}, {took} ({self.done} of {self.total})")

    def _count(self) -> None:
        text = f"{self.done} of {self.total} finished"
        self.bar.update(self.whole, completed=self.done, text=text)


def _epochs(run: Run) -> list[dict[str, Any]]:
    """The epochs that a run has finished; none where its folder is not yet there."""
    with reading(run.path):
        try:
            return run.metrics
        except UserError:
            return []
