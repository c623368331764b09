"""How samples are divided: drawn by class, and with what belongs together kept together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resnetlab.data.sampling import stratified_indices
from resnetlab.errors import UserError
from resnetlab.seeding import seeded_generator


def split_indices(
    labels: Tensor,
    size: float,
    seed: int,
    *,
    parameter: str = "val_size",
    purpose: str = "validation",
    groups: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """Ascending indices of the samples that stay, and of those that are drawn, int64.

    ``size`` is a number of samples or, below 1, a share of them. They are drawn with ``seed``, of
    each class in proportion to its samples. Those with the same number in ``groups``, int64 (n,),
    stay on one side, so that the size is met as nearly as whole groups allow. Raises UserError,
    which names the ``parameter``, for a size that does not fit.
    """
    n = len(labels)
    count = round(size * n) if size < 1 else int(size)
    if not 0 <= count < n:
        raise UserError(
            f"`{parameter}` {size:g} does not fit {n} training images; take fewer, or 0."
        )
    order = torch.randperm(n, generator=seeded_generator(seed, purpose))
    drawn = torch.zeros(n, dtype=torch.bool)
    if groups is not None:
        _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        in_group = torch.from_numpy(sizes[numbers] > 1)
        order_in_groups = order[in_group[order]]
        drawn[_whole_groups(labels, numbers, order_in_groups, count / n)] = True
        order = order[~in_group[order]]
    rest = max(0, min(count - int(drawn.sum()), len(order)))
    drawn[order[stratified_indices(labels[order], rest)]] = True
    return torch.nonzero(~drawn).flatten(), torch.nonzero(drawn).flatten()


def _whole_groups(labels: Tensor, groups: np.ndarray, order: Tensor, share: float) -> list[int]:
    """The samples of some groups, about a ``share`` of each class of the samples in ``order``.

    The groups come by as their first samples do; each is taken if that brings the classes nearer
    to their shares.
    """
    members: dict[int, list[int]] = {}
    for index in order.tolist():
        members.setdefault(int(groups[index]), []).append(index)
    missing = share * torch.bincount(labels[order], minlength=int(labels.max()) + 1).double()
    drawn = []
    for indices in members.values():
        counts = torch.bincount(labels[indices], minlength=len(missing))
        if (missing - counts).abs().sum() < missing.abs().sum():
            missing -= counts
            drawn += indices
    return drawn
