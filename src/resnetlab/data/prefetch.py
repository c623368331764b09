"""Work on the next item while the caller is busy with this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from resnetlab.data.dataset import Dataset

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map(function, items)``, computed in a thread one item ahead of the caller, and no more.

    Results come in order; an exception is raised where its result would have come.
    """
    pool = ThreadPoolExecutor(1)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def load_batches(
    dataset: Dataset, indices: Iterable[Tensor]
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Indices with ``dataset.batch`` of them, loaded one batch ahead where that takes time."""

    def load(chosen: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return chosen, dataset.batch(chosen)

    return map(load, indices) if dataset.in_memory else one_ahead(load, indices)
