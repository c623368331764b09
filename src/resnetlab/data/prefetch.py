"""Work on the next batch while the caller is busy with this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from resnetlab.data.dataset import Dataset

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(
    function: Callable[[Item], Result], batches: Iterable[Sequence[Item]], *, threads: int = 1
) -> Iterator[list[Result]]:
    """``[function(item) for item in batch]`` for each batch, computed in threads.

    While the caller works on a batch, the next one is computed, and no more than that. Results
    come in order; an exception is raised where its batch would have come. Closing the iterator
    early waits for the items that are being computed, and drops the rest.
    """
    pool = ThreadPoolExecutor(threads)
    ahead: deque[list[Future[Result]]] = deque()
    try:
        for batch in batches:
            ahead.append([pool.submit(function, item) for item in batch])
            if len(ahead) > 1:
                yield [future.result() for future in ahead.popleft()]
        while ahead:
            yield [future.result() for future in ahead.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def load_batches(
    dataset: Dataset, indices: Iterable[Tensor]
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Indices with ``dataset.batch`` of them, loaded one batch ahead where that takes time."""

    def load(chosen: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return chosen, dataset.batch(chosen)

    if dataset.in_memory:
        yield from map(load, indices)
    else:
        for (loaded,) in one_ahead(load, ([chosen] for chosen in indices)):
            yield loaded
