"""Which cores the threads of this process run on, where other programs want them too."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from resnetlab.compute.execution import Execution

Step = TypeVar("Step")

WINDOW = 0.5
"""Seconds of work that a speed is measured over."""
WAITED = 0.1
"""Share of the time that our threads have waited for a core, from which on it pays to look."""
GAIN = 1.05
"""How much faster other cores must be to be kept."""
FIRST_REST, LONGEST_REST = 5.0, 60.0
"""Seconds between two trials; twice as many after each that changed nothing."""


class Cores:
    """Keeps the work on one core less than there are while that is faster.

    Threads that share a step wait for each other: beside one busy process, two threads on two cores
    make 0.74 of what the same two make on one of them. They are moved and never fewer, so that no
    bit of a result depends on what else the machine does. A context; at its end all cores are
    allowed again. Does nothing for one thread, and where threads cannot be moved (not Linux).

    Args:
        threads: How many compute together.
        say: What to do with the sentence that tells of the first move.
    """

    def __init__(self, threads: int, say: Callable[[str], None]) -> None:
        self._say = say
        self._all = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._active = threads > 1 and len(self._all) > 1
        self._active = self._active and Path("/proc/self/schedstat").exists()
        self._on_fewer = self._said = False
        self._rate_before: float | None = None
        self._rest, self._next_trial = FIRST_REST, 0.0
        self._kind: Hashable = None
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._on_fewer:
            self._move()

    def count(self, seconds: float, kind: Hashable = None) -> None:
        """A step is done; only steps of the same ``kind`` are as long as each other."""
        if not self._active:
            return
        if kind != self._kind:
            self._kind, self._rate_before = kind, None
            self._begin()
        self._steps += 1
        self._seconds += seconds
        if self._seconds >= WINDOW:
            self._judge(self._steps / self._seconds)
            self._begin()

    def _begin(self) -> None:
        self._steps, self._seconds = 0, 0.0
        self._began, self._waited_before = time.monotonic(), _waited()

    def _judge(self, rate: float) -> None:
        """Begin a trial of the other cores, or end one: what was faster is kept."""
        now = time.monotonic()
        if self._rate_before is None:
            waited = (_waited() - self._waited_before) / max(now - self._began, 1e-9)
            if now >= self._next_trial and (self._on_fewer or waited > WAITED):
                self._rate_before = rate
                self._move()
            return
        gain, self._rate_before = rate / self._rate_before, None
        self._rest = FIRST_REST if gain > GAIN else min(2 * self._rest, LONGEST_REST)
        self._next_trial = now + self._rest
        if gain <= GAIN:
            self._move()
        elif self._on_fewer and not self._said:
            self._said = True
            self._say(
                f"other programs are using the processor: going on with {len(self._all) - 1} of "
                f"its {len(self._all)} cores as long as that is faster, now {gain:.1f} times; "
                "the results stay the same"
            )

    def _move(self) -> None:
        self._on_fewer = not self._on_fewer
        cores = {*self._all}
        if self._on_fewer:  # the one that the main thread is on stays
            cores.discard(next(core for core in self._all if core != _current_core()))
        for thread in os.listdir("/proc/self/task"):
            try:
                os.sched_setaffinity(int(thread), cores)
            except OSError:  # it has ended, or its cores were taken away meanwhile
                continue


def movable_threads(execution: Execution, processes: int) -> int:
    """How many threads of a training ``Cores`` may move: 1, none, where it computes elsewhere.

    Several processes wait for each other, so that none can tell alone what is faster.
    """
    return (execution.threads or 1) if processes == 1 and execution.device == "cpu" else 1


def on_fewer_where_faster(
    steps: Iterable[Step], threads: int, say: Callable[[str], None]
) -> Iterator[Step]:
    """The steps of an iterator, all alike, whose work is done as they are asked for."""
    with Cores(threads, say) as cores:
        began = time.perf_counter()
        for step in steps:
            cores.count(time.perf_counter() - began)
            yield step
            began = time.perf_counter()


def _waited() -> float:
    """Seconds that this process's threads have been ready to run without a core."""
    waited = 0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            waited += int(task.read_text().split()[1])
    return waited / 1e9


def _current_core() -> int:
    """Where the main thread has run last."""
    stat = Path("/proc/self/stat").read_text()
    return int(stat.rpartition(")")[2].split()[36])
