"""Muon for convolutions: momentum whose matrix is made orthogonal before the step.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, as airbench94_muon uses it.
torch.optim.Muon takes matrices alone and one at a time; here the convolutions of one shape are
stacked, so that a small network's step is a dozen batched products and not hundreds.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, optim


def step_by_muon(optimizer: optim.SGD, dtype: torch.dtype = torch.float32) -> None:
    """Make ``optimizer`` step its groups with ``muon=True`` by Muon.

    Their weights (out, in, k, k) count as matrices (out, in * k * k) and are rescaled to the norm
    sqrt(out) at each step: a norm follows each of these convolutions, so only directions matter,
    and the learning rate is the angle of a step. Their own momentum is ``muon_momentum``; SGD's,
    and weight decay, must be 0. The matrices are multiplied in ``dtype``; airbench takes bf16,
    whose error is a hundredth or two, and more for matrices of low rank.
    """
    optimizer.register_step_pre_hook(functools.partial(_orthogonalize_gradients, dtype=dtype))


@torch.no_grad()
def _orthogonalize_gradients(
    optimizer: optim.Optimizer, *_: Any, dtype: torch.dtype = torch.float32
) -> None:
    for group in optimizer.param_groups:
        if not group.get("muon"):
            continue
        stacks: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is not None:
                stacks[weight.shape].append(weight)
        for weights in stacks.values():
            momentum = group["muon_momentum"]
            directions = [_direction(w, optimizer.state[w], momentum) for w in weights]
            updates = orthogonalize(torch.stack(directions), dtype=dtype)
            for weight, update in zip(weights, updates, strict=True):
                weight.grad = update.reshape(weight.shape)
                weight.mul_(len(weight) ** 0.5 / weight.norm())


def _direction(weight: Tensor, state: dict[str, Tensor], momentum: float) -> Tensor:
    """Nesterov's, as a matrix (out, in * k * k)."""
    gradient = weight.grad
    assert gradient is not None
    if "velocity" not in state:
        state["velocity"] = torch.zeros_like(weight)
    velocity = torch.add(gradient, state["velocity"], alpha=momentum, out=state["velocity"])
    return gradient.add(velocity, alpha=momentum).flatten(1)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, rows, columns), singular values brought near 1 by three quintic Newton-Schulz steps.

    Each multiplies x by a polynomial of x x^T. Those commute, so only they are iterated, which are
    smaller than x, and x is multiplied once. More than three would need x x^T anew in between: what
    rounding adds to it grows twelvefold a step.
    """
    x = matrices
    tall = x.size(1) > x.size(2)
    if tall:
        x = x.mT
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    gram = x @ x.mT
    factor = product = _factor(gram)
    for _ in range(2):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        product = factor @ product
    x = product @ x
    return (x.mT if tall else x).to(matrices.dtype)


def _factor(gram: Tensor) -> Tensor:
    """What a step multiplies x by, for x x^T."""
    a, b, c = 3.4445, -4.7750, 2.0315
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor
