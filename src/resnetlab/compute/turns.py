"""Work that is measured in turn, so that whatever else the machine does happens to all of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def seconds_in_turn(
    works: Mapping[str, Callable[[], Any]], *, rounds: int = 5, seconds: float = 0.3
) -> dict[str, list[float]]:
    """Seconds that one call of each work takes, in each round; one call warms up before.

    The order is A B C, C B A, A B C ...; a turn is as many calls as ``seconds`` allow, at least
    one, and the quickest of them counts least: it is the turn's median.
    """
    calls = {name: _warm_up(work, seconds) for name, work in works.items()}
    found: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    for _ in range(rounds):
        for name in order:
            time.sleep(0.02)  # until the threads of the one before it no longer wait in a loop
            times = [_timed(works[name]) for _ in range(calls[name])]
            found[name].append(statistics.median(times))
        order.reverse()
    return found


def _warm_up(work: Callable[[], Any], seconds: float) -> int:
    """How many calls fit into ``seconds``, once it is warm."""
    work()
    return max(1, min(1000, round(seconds / max(_timed(work), 1e-6))))


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
