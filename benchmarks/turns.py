"""Contestants that take turns: A B C, C B A, A B C ..., each in processes of its own.

Memory, threads and settings of one contestant then mean nothing to another, and whatever else
happens on the machine happens to all of them. What counts is the ratio within a round.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Untimed:
    """What a contestant yields between two steps for what a training would not do."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A function `module:name` that yields the images of each of its steps without end."""

    name: str
    function: str
    arguments: dict[str, Any]
    processes: int = 1
    """more than one train together as torchrun would start them, with the cores shared out"""


@dataclass(kw_only=True)
class Result:
    name: str
    rates: list[float] = field(default_factory=list)
    """images/s in each round"""
    skipped: str | None = None
    """why there are no rates"""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: float
    """of one turn of one contestant; a turn is at least one step"""


class Running:
    """A contestant's processes, waiting for their turn."""

    def __init__(self, contestant: Contestant) -> None:
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        size = contestant.processes
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.turns", contestant.function],
                env=os.environ | (_torchrun(rank, size, port) if size > 1 else {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        self._tell(json.dumps(contestant.arguments))

    def take_turn(self, steps: int) -> float:
        """Images/s over some steps; SkipError if the contestant cannot run."""
        self._tell(str(steps))
        answers = [self._answer(process) for process in self.processes]
        seconds = max(answer["seconds"] for answer in answers)
        return sum(answer["images"] for answer in answers) / seconds

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def _tell(self, line: str) -> None:
        for process in self.processes:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError):  # it has ended, and `_answer` says so
                process.stdin.write(line + "\n")
                process.stdin.flush()

    def _answer(self, process: subprocess.Popen) -> dict[str, Any]:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise SkipError(f"its process ended with {process.wait()}")
        answer = json.loads(line)
        if "skipped" in answer:
            raise SkipError(answer["skipped"])
        return answer


class SkipError(Exception):
    """A contestant cannot run; the message says why."""


def compete(
    contestants: Sequence[Contestant], effort: Effort, *, neighbours: int = 0
) -> list[Result]:
    """The rates of all contestants, measured in turn; prints who cannot take part and why.

    ``neighbours``: processes beside each turn that do nothing but keep a core busy.
    """
    results = {contestant.name: Result(name=contestant.name) for contestant in contestants}
    running: dict[str, Running] = {}
    steps: dict[str, int] = {}
    try:
        for contestant in contestants:
            name = contestant.name
            running[name] = Running(contestant)
            with _skipping(results[name], running):
                steps[name] = warm_up(running[name], effort.seconds)
        order = list(running)
        for _ in range(effort.rounds):
            for name in order:
                if name in running:
                    with _skipping(results[name], running), _busy(neighbours):
                        results[name].rates.append(running[name].take_turn(steps[name]))
            order.reverse()
    finally:
        for each in running.values():
            each.stop()
    return list(results.values())


@contextlib.contextmanager
def _busy(number: int) -> Iterator[None]:
    """So many processes that take a core each, as a browser or an update does."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _skipping(result: Result, running: dict[str, Running]) -> Iterator[None]:
    """Go on without a contestant that cannot."""
    try:
        yield
    except SkipError as error:
        running.pop(result.name).stop()
        result.skipped = str(error)
        print(f"skipped {result.name}: {error}", file=sys.stderr)


def warm_up(contestant: Running, seconds: float) -> int:
    """Let it compile and fill its caches; how many steps its turns shall have."""
    for _ in range(2):
        contestant.take_turn(1)
    began = time.perf_counter()
    contestant.take_turn(1)
    return max(1, round(seconds / (time.perf_counter() - began)))


def rows(results: Sequence[Result]) -> list[list[str]]:
    """For each contestant: name, median images/s, its range, ratio to the first and its range."""
    base = [] if results[0].skipped else results[0].rates
    table = []
    for result in results:
        if result.skipped:
            table.append([result.name, f"skipped: {result.skipped}", "", "", ""])
            continue
        ratios = [a / b for a, b in zip(result.rates, base, strict=True)] if base else []
        table.append([result.name, *_spread(result.rates, ".4g"), *_spread(ratios, ".2f")])
    return table


def _spread(values: Sequence[float], form: str) -> list[str]:
    if not values:
        return ["", ""]
    middle, low, high = statistics.median(values), min(values), max(values)
    return [f"{middle:{form}}", f"{low:{form}} to {high:{form}}"]


def _torchrun(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun would put into the environment of one of its processes."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // size)),
    }


def serve(function: str) -> None:
    """A contestant's process: its arguments come first, then numbers of steps to take."""
    # Replies have the pipe to themselves; whatever a library prints goes where errors go.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, name = function.split(":")
    arguments = json.loads(sys.stdin.readline())
    yielded: Iterator[int | Untimed] = getattr(importlib.import_module(module), name)(**arguments)
    for line in sys.stdin:
        began = time.perf_counter()
        try:
            images, untimed = _take(yielded, int(line))
            reply = {"images": images, "seconds": time.perf_counter() - began - untimed}
        except ImportError as error:
            reply = {"skipped": f"{error}; pip install 'resnetlab[export,dev]' brings it"}
        print(json.dumps(reply), file=replies, flush=True)


def _take(yielded: Iterator[int | Untimed], steps: int) -> tuple[int, float]:
    """Images of so many steps, and seconds that do not count."""
    images, untimed = 0, 0.0
    while steps:
        step = next(yielded)
        if isinstance(step, int):  # Untimed has another identity in the module that is run
            images, steps = images + step, steps - 1
        else:
            untimed += step.seconds
    return images, untimed


if __name__ == "__main__":
    serve(sys.argv[1])
