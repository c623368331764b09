"""Seconds that a piece of work takes, and images a second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from resnetlab.errors import UserError


def time_once(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def repeat(work: Callable[[], Any], *, repeats: int, seconds: float) -> list[float]:
    """Seconds of each repetition, after two to warm up; see ``benchmark_training``.

    Not ``torch.utils.benchmark.Timer``: it sets the number of threads, has no limit of repetitions,
    and does not collect garbage, as a training does.
    """
    for _ in range(2):
        work()
    times: list[float] = []
    while len(times) < repeats and (len(times) < 3 or sum(times) < seconds):
        times.append(time_once(work))
    return times


def rate_fields(times: Sequence[float], batch_size: int) -> dict[str, Any]:
    """The fields of ``Rate``."""
    slow, median, fast = _quartiles([batch_size / t for t in times])
    return {
        "batch_size": batch_size,
        "images_per_second": median,
        "low": slow,
        "high": fast,
        "ms_per_step": 1e3 * statistics.median(times),
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def require_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value <= 0:
            raise UserError(f"{name} must be greater than 0, not {value}.")
