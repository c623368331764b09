"""A linear classifier of a network's features: logistic regression, its penalty chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
"""L2 penalties that are tried, of weights of standardised features: the strongest first."""


@dataclass(frozen=True)
class Linear:
    """A linear classifier."""

    weight: Tensor
    """fp32 (classes, d)"""
    bias: Tensor
    """fp32 (classes,)"""

    def __call__(self, inputs: Tensor) -> Tensor:
        """(n, d) -> logits (n, classes)"""
        return F.linear(inputs, self.weight, self.bias)

    def loss(self, inputs: Tensor, labels: Tensor) -> float:
        return F.cross_entropy(self(inputs), labels).item()


def penalty_path(
    inputs: Tensor,
    labels: Tensor,
    classes: int,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    down_to: float = 0.0,
) -> Iterator[tuple[float, Linear]]:
    """The classifier of each penalty; each starts from the one before it.

    inputs (n, d), standardised; labels int64 (n,). ``class_weights`` and ``label_smoothing`` are
    those of ``F.cross_entropy``.
    """
    weight = torch.zeros(classes, inputs.size(1), requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    for penalty in PENALTIES:
        if penalty < down_to:
            return
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=50, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
        )

        def loss(optimizer: torch.optim.LBFGS = optimizer, penalty: float = penalty) -> Tensor:
            optimizer.zero_grad()
            error = F.cross_entropy(
                F.linear(inputs, weight, bias),
                labels,
                weight=class_weights,
                label_smoothing=label_smoothing,
            )
            total = error + penalty / 2 * weight.square().sum()
            total.backward()
            return total

        optimizer.step(loss)  # pyright: ignore[reportArgumentType]
        yield penalty, Linear(weight.detach().clone(), bias.detach().clone())


def best_on(
    inputs: Tensor, labels: Tensor, path: Iterator[tuple[float, Linear]]
) -> tuple[float, Linear]:
    """The penalty, and its classifier, with the lowest loss on samples that it was not fitted to.

    From the strongest penalty on that falls and then rises; weaker ones, which take longer, are not
    tried any more.
    """
    found: list[tuple[float, float, Linear]] = []
    for penalty, classifier in path:
        found.append((classifier.loss(inputs, labels), penalty, classifier))
        losses = [loss for loss, *_ in found]
        if len(losses) - losses.index(min(losses)) > 2:
            break
    _, penalty, classifier = min(found, key=lambda each: each[0])
    return penalty, classifier
