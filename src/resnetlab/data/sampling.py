"""Which samples form a batch: shuffles, batches and the share of each rank.

Everything random is derived from numbers with `fold_in`, so nothing needs saving: step 17 of
epoch 3 has the same samples in an unbroken run, in a resumed one and on any number of ranks.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.seeding import seeded_generator


def shuffled_indices(n: int, *, seed: int, epoch: int) -> Tensor:
    """The order of an epoch: a permutation of range(n), int64."""
    return torch.randperm(n, generator=seeded_generator(seed, "shuffle", epoch))


def balanced_indices(labels: Tensor, *, seed: int, epoch: int) -> Tensor:
    """The order of an epoch that has equally many samples of each class, int64 (n,).

    It is as long as the data; classes that have fewer samples than their share repeat all of them
    equally often, as far as that divides.
    """
    n, order = len(labels), shuffled_indices(len(labels), seed=seed, epoch=epoch)
    members = [order[labels[order] == label] for label in labels.unique()]
    shares = [n // len(members) + (place < n % len(members)) for place in range(len(members))]
    chosen = [
        each.repeat(-(-share // len(each)))[:share]
        for each, share in zip(members, shares, strict=True)
    ]
    again = torch.randperm(n, generator=seeded_generator(seed, "balance", epoch))
    return torch.cat(chosen)[again]


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole global batches in an epoch. A set smaller than one batch is one smaller batch."""
    return max(n // batch_size, min(n, 1))


def epoch_batches(
    n: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    balance: Tensor | None = None,
) -> Iterator[Tensor]:
    """This rank's indices, int64 (batch_size / world_size,), step by step from `start_step`.

    `batch_size` counts the samples of all ranks together: the ranks' shares of a step are
    disjoint and join to the same batch whatever the world size. `balance`: labels of all samples,
    whose classes are then to be equally frequent. Raises UserError if the ranks
    cannot share a batch evenly.
    """
    if batch_size < 1 or batch_size % world_size:
        raise UserError(
            f"batch size {batch_size} cannot be shared evenly by {world_size} process(es): "
            f"choose a multiple of {world_size}"
        )
    if n < world_size:
        raise UserError(f"{n} samples are too few for {world_size} process(es)")
    if balance is None:
        order = shuffled_indices(n, seed=seed, epoch=epoch)
    else:
        order = balanced_indices(balance, seed=seed, epoch=epoch)
    if n < batch_size:  # a tiny set still trains: one batch, the same on each rank
        batch_size = n - n % world_size
    for step in range(start_step, steps_per_epoch(n, batch_size)):
        batch = order[step * batch_size : (step + 1) * batch_size]
        yield batch.tensor_split(world_size)[rank]


def evaluation_batches(
    n: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Tensor]:
    """Indices, int64, of this rank's contiguous share, at most `batch_size` samples each.

    Over all ranks each sample occurs exactly once: none is padded or counted twice, so ranks
    may have different numbers of batches and results are to be summed, not averaged.
    """
    if batch_size < 1:
        raise UserError(f"batch size {batch_size} is not positive")
    begin, end = n * rank // world_size, n * (rank + 1) // world_size
    for start in range(begin, end, batch_size):
        yield torch.arange(start, min(start + batch_size, end))


def stratified_indices(labels: Tensor, number: int) -> Tensor:
    """That many samples, of each class in proportion to its samples: ascending indices, int64 (n,).

    Each class gives its earliest; how many, is Webster's method (that of seats by votes), so that
    equally large classes give equally many and a class with one sample keeps it.
    """
    by_class = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    turns_of = [(torch.arange(int(n)).double() + 0.5) / n for n in counts]
    turn = torch.cat(turns_of) if turns_of else torch.zeros(0)
    turns = torch.empty_like(labels, dtype=turn.dtype).index_copy_(0, by_class, turn)
    return torch.argsort(turns, stable=True)[:number].sort().values
