"""What is counted of a network's answers; the same for validation and for evaluation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def tally(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross entropy in nats, right answers and images of a batch: float64 (3,).

    Batches, and the shares of several processes, are added up and divided at the end, so that
    every image counts once.
    """
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss, right.double(), loss.new_tensor(len(labels))])
