"""Muon for convolutions: momentum whose matrix is made orthogonal before the step.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, as airbench94_muon uses it.
torch.optim.Muon takes matrices alone and one at a time; here what is iterated is stacked, so that a
small network's step is dozens of products and not hundreds.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, optim

_SMALL = 64
"""Shorter side up to which fp32 is as fast as bf16: such products are mostly preparation."""


def step_by_muon(optimizer: optim.SGD, dtype: torch.dtype = torch.float32) -> None:
    """Make ``optimizer`` step its groups with ``muon=True`` by Muon.

    Their weights (out, in, k, k) count as matrices (out, in * k * k) and are rescaled to the norm
    sqrt(out) at each step: a norm follows each of these convolutions, so only directions matter,
    and the learning rate is the angle of a step. Their own momentum is ``muon_momentum``; SGD's,
    and weight decay, must be 0. Large matrices are multiplied in ``dtype``; airbench takes bf16,
    whose error is a hundredth or two, and more for matrices of low rank. So do we for fp16, which
    has no room for the squares of small gradients.
    """
    if dtype == torch.float16:
        dtype = torch.bfloat16
    optimizer.register_step_pre_hook(functools.partial(_orthogonalize_gradients, dtype=dtype))


@torch.no_grad()
def _orthogonalize_gradients(
    optimizer: optim.Optimizer, *_: Any, dtype: torch.dtype = torch.float32
) -> None:
    for group in optimizer.param_groups:
        if not group.get("muon"):
            continue
        alike: dict[int, list[Tensor]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is not None:
                alike[min(len(weight), weight[0].numel())].append(weight)
        for side, weights in alike.items():
            momentum = group["muon_momentum"]
            directions = [_direction(w, optimizer.state[w], momentum) for w in weights]
            if side > _SMALL:
                directions = [direction.to(dtype) for direction in directions]
            for weight, update in zip(weights, orthogonalize(directions), strict=True):
                out, channels, height, width = weight.shape
                pixels_first = update.to(weight.dtype).view(out, height, width, channels)
                weight.grad = pixels_first.permute(0, 3, 1, 2)
                weight.mul_(out**0.5 / weight.norm())


def _direction(weight: Tensor, state: dict[str, Tensor], momentum: float) -> Tensor:
    """Nesterov's, as a matrix (out, k * k * in): of weights in channels_last order a view."""
    gradient = weight.grad
    assert gradient is not None
    if "velocity" not in state:
        state["velocity"] = torch.zeros_like(weight)
    velocity = torch.add(gradient, state["velocity"], alpha=momentum, out=state["velocity"])
    return gradient.add(velocity, alpha=momentum).permute(0, 2, 3, 1).flatten(1)


def orthogonalize(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Singular values brought near 1 by three quintic Newton-Schulz steps; shorter sides alike.

    Each multiplies x by a polynomial of x x^T. Those commute, so only they are iterated, all
    together, and they are smaller than x, which is multiplied once. More than three would need
    x x^T anew in between: what rounding adds to it grows twelvefold a step. All is computed in the
    dtype of the matrices.
    """
    wide = [x.mT if len(x) > x.size(1) else x for x in matrices]
    gram = torch.stack([x @ x.mT for x in wide])
    squared_norm = gram.diagonal(dim1=1, dim2=2).float().sum(1)[:, None, None].clamp_min(1e-30)
    gram = (gram / squared_norm).to(gram.dtype)
    factor = product = _factor(gram)
    for _ in range(2):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        product = factor @ product
    product = (product * squared_norm.rsqrt()).to(gram.dtype)
    return [
        p @ x if x is matrix else (p @ x).mT
        for p, x, matrix in zip(product, wide, matrices, strict=True)
    ]


def _factor(gram: Tensor) -> Tensor:
    """What a step multiplies x by, for x x^T."""
    a, b, c = 3.4445, -4.7750, 2.0315
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor
