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
from torch import Tensor, nn, optim


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
            stacks: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks[parameter.shape].append(parameter)
            for parameters in stacks.values():
                self._orthogonalize_gradients(parameters, group["muon_momentum"])
        super().step()

    def _orthogonalize_gradients(self, parameters: list[nn.Parameter], momentum: float) -> None:
        gradients = [parameter.grad for parameter in parameters]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "velocity" not in state:
                state["velocity"] = torch.zeros_like(parameter)
            buffers.append(state["velocity"])
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        torch._foreach_add_(gradients, buffers, alpha=momentum)  # Nesterov's look ahead
        stack = orthogonalize(torch.stack([g.flatten(1) for g in gradients]))  # type: ignore[union-attr]
        for parameter, update in zip(parameters, stack, strict=True):
            parameter.grad.copy_(update.view_as(parameter))  # type: ignore[union-attr]
            parameter.mul_(len(parameter) ** 0.5 / parameter.norm())


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
