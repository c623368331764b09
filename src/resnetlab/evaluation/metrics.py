"""What is counted of a network's answers, each number with what chance could have made of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CALIBRATION_BINS = 15
"""of equal width, as in Guo et al. 2017 (https://arxiv.org/abs/1706.04599)"""
COVERAGES = (100, 95, 90, 80, 70, 60, 50)
"""% of the images that a selective network answers"""
RESAMPLES = 2000
"""of a bootstrap: its 95 % interval is then sure to about a tenth of its width"""
_Z = 1.959963984540054
"""95 % of a normal distribution lie within so many standard deviations."""

Interval = tuple[float, float]
"""%: with 95 % confidence, the value on all such images lies within."""


def tally(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross entropy in nats, correct predictions and images of a batch: float64 (3,).

    Batches, and the shares of several processes, are added up and divided at the end, so that
    every image counts once. The same for validation and for evaluation.
    """
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss, right.double(), loss.new_tensor(len(labels))])


def wilson(right: int, n: int) -> Interval:
    """95 % interval of a share of images (Wilson 1927); of none nothing is known."""
    if not n:
        return 0.0, 100.0
    share, z2 = right / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def balanced_accuracy(right: Tensor, n: Tensor) -> float:
    """Mean of the classes' accuracies in %; a class without images does not count.

    right and n: int (classes,), images of each class.
    """
    present = n > 0
    return float(100 * (right[present] / n[present].double()).mean())


def balanced_interval(right: Tensor, n: Tensor) -> Interval:
    """95 % interval of ``balanced_accuracy``: a percentile bootstrap over the images.

    To draw images with replacement is to draw how many there are of each class and outcome.
    """
    cells = torch.cat([right, n - right]).double().numpy()
    total = int(n.sum())
    draws = np.random.default_rng(0).multinomial(total, cells / total, size=RESAMPLES)
    drawn_right, drawn_wrong = np.split(draws, 2, axis=1)
    drawn = drawn_right + drawn_wrong
    recalls = np.divide(drawn_right, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)
    low, high = np.percentile(100 * np.nanmean(recalls, axis=1), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images whose confidence lies between two values."""

    low: float
    """%; high, confidence (their mean) and accuracy likewise"""
    high: float
    n: int
    confidence: float
    accuracy: float
    interval: Interval
    """of the accuracy"""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def reliability(confidence: Tensor, right: Tensor) -> list[Bin]:
    """How often answers of like confidence are right: the bins that are not empty."""
    numbers = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    bins = []
    for number in numbers.unique().tolist():
        member = numbers == number
        hits, n = int(right[member].sum()), int(member.sum())
        bins.append(
            Bin(
                low=100 * number / CALIBRATION_BINS,
                high=100 * (number + 1) / CALIBRATION_BINS,
                n=n,
                confidence=100 * float(confidence[member].mean()),
                accuracy=100 * hits / n,
                interval=wilson(hits, n),
            )
        )
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error in %: |confidence - accuracy|, averaged over the images."""
    n = sum(b.n for b in bins)
    return sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / max(n, 1)


def selective(confidence: Tensor, right: Tensor) -> list[dict[str, float]]:
    """Accuracy where a network answers only what it is surest of; see ``COVERAGES``."""
    order = confidence.argsort(descending=True, stable=True)
    hits, sure = right[order].cumsum(0), confidence[order]
    points = []
    for coverage in COVERAGES:
        n = max(1, round(coverage * len(order) / 100))
        k = int(hits[n - 1])
        points.append(
            {"coverage": coverage, "accuracy": 100 * k / n, "interval": wilson(k, n)}
            | {"confidence": 100 * float(sure[n - 1]), "n": n}
        )
    return points


def rejections(confidence: Tensor, right: Tensor, threshold: float) -> dict[str, float]:
    """What a threshold turns into "none of these", in % of all, of the right, of the wrong."""
    below = confidence < threshold
    kept = ~below

    def share(part: Tensor, whole: Tensor) -> float:
        return 100 * int((part & whole).sum()) / max(int(whole.sum()), 1)

    return {
        "threshold": 100 * threshold,
        "rejected": share(below, torch.ones_like(right)),
        "rejected_right": share(below, right),
        "rejected_wrong": share(below, ~right),
        "accuracy_of_the_rest": share(right, kept),
    }


def mean_interval(values: Tensor, low: float = 0.0) -> Interval:
    """95 % interval of the mean of one measurement an image, float64 (n,), by its deviation.

    A measurement lies between ``low`` and 100, and so does its mean.
    """
    mean = float(values.mean())
    half = _Z * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else math.inf
    return max(low, mean - half), min(100.0, mean + half)
