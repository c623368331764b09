"""What a network answered to each image: all that an evaluation counts is counted from this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Seven numbers an image; its logits are not kept."""

    labels: Tensor
    """int64 (n,)"""
    predicted: Tensor
    """int64 (n,)"""
    rank: Tensor
    """place of the true class among all, from 0, int64 (n,)"""
    confidence: Tensor
    """probability of the prediction, float64 (n,), after the temperature"""
    raw_confidence: Tensor
    """the same, before it"""
    loss: Tensor
    """cross entropy, nats, float64 (n,), after the temperature: -log of the true class's
    probability"""
    raw_loss: Tensor
    """the same, before it"""

    @classmethod
    def read(cls, logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Answers:
        """Of a batch: logits (n, classes), labels int64 (n,), both on the CPU."""
        logits = logits.double()
        of_true = logits.gather(1, labels[:, None])
        earlier = torch.arange(logits.size(1)) < labels[:, None]  # wins where logits are equal
        ahead = (logits > of_true) | ((logits == of_true) & earlier)
        predicted = logits.argmax(1)
        raw, tempered = logits.log_softmax(1), (logits / temperature).log_softmax(1)
        return cls(
            labels=labels,
            predicted=predicted,
            rank=ahead.sum(1),
            confidence=tempered.gather(1, predicted[:, None])[:, 0].exp(),
            raw_confidence=raw.gather(1, predicted[:, None])[:, 0].exp(),
            loss=-tempered.gather(1, labels[:, None])[:, 0],
            raw_loss=-raw.gather(1, labels[:, None])[:, 0],
        )

    @classmethod
    def join(cls, parts: Iterable[Answers]) -> Answers:
        """Several batches, in order."""
        parts = list(parts)
        names = [field.name for field in fields(cls)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> Tensor:
        """bool (n,)"""
        return self.predicted == self.labels
