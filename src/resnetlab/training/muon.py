"""Muon for convolutions: momentum whose matrix is made orthogonal before the step.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, as airbench94_muon uses it.
torch.optim.Muon takes matrices alone and one at a time; here the convolutions of one shape are
stacked, so that a small network's step is a dozen batched products and not hundreds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, optim


class Muon(optim.SGD):
    """SGD whose groups with ``muon=True`` are stepped by Muon.

    Their weights (out, in, k, k) count as matrices (out, in * k * k) and are rescaled to the norm
    sqrt(out) at each step: a norm follows each of these convolutions, so only directions matter,
    and the learning rate is the angle of a step. They must not have weight decay.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            if not group.get("muon"):
                continue
            stacks: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks[parameter.shape].append(parameter)
            for weights in stacks.values():
                directions = [self._momentum(weight, group["muon_momentum"]) for weight in weights]
                updates = orthogonalize(torch.stack(directions))
                for weight, update in zip(weights, updates, strict=True):
                    weight.grad = update.reshape(weight.shape)
                    weight.mul_(len(weight) ** 0.5 / weight.norm())
        super().step()

    def _momentum(self, weight: Tensor, momentum: float) -> Tensor:
        """Nesterov's direction as a matrix (out, in * k * k)."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity = state["velocity"].mul_(momentum).add_(gradient)
        return gradient.add(velocity, alpha=momentum).flatten(1)


def orthogonalize(matrices: Tensor, steps: int = 3) -> Tensor:
    """(n, rows, columns) with all singular values near 1, by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices
    tall = x.size(1) > x.size(2)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
