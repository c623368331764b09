"""Honest confidence: a temperature, and the confidence below which the answer is "none of these".

Both are fitted to validation images, which the weights were not fitted to.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from resnetlab.compute.execution import Execution
from resnetlab.data.dataset import Dataset
from resnetlab.environment import torch_defaults
from resnetlab.evaluation.evaluate import REPRODUCIBLE, logit_batches
from resnetlab.inference.backends import TorchBackend
from resnetlab.weights.checkpoint import Checkpoint

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures that are fitted; outside, confidences are all 100 % or all alike."""
REJECTED = 0.05
"""Share of the right validation answers that the threshold may turn into "none of these"; 95 %
kept is the usual working point for unknown images (Hendrycks and Gimpel 2017, arXiv:1610.02136)."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimises the mean cross entropy (Guo et al. 2017, arXiv:1706.04599).

    The loss is convex in the inverse temperature b, so its slope has one root. Newton's steps are
    taken in log b, and a step that would leave the bracket around the root is halved instead.

    Args:
        logits: (n, classes), of images that the network was not trained on.
        labels: int64 (n,).

    Returns:
        A temperature from ``COLDEST`` to ``HOTTEST``; 1.0 if there is nothing to fit: no image, no
        mistake (which would ask for 0), or logits that are all alike.
    """
    logits = logits.double()
    centred = logits - logits.mean(1, keepdim=True) if len(logits) else logits
    if not centred.numel() or not centred.any() or logits.argmax(1).equal(labels):
        return 1.0
    true = centred.gather(1, labels[:, None])[:, 0]

    def derivatives(b: float) -> tuple[float, float]:
        """Slope and curvature of the loss in b."""
        shares = (b * centred).softmax(1)
        mean = (shares * centred).sum(1)
        squares = (shares * (centred - mean[:, None]) ** 2).sum(1)
        return float((mean - true).mean()), float(squares.mean())

    if derivatives(1 / HOTTEST)[0] >= 0:
        return HOTTEST
    low, high = -math.log(HOTTEST), -math.log(COLDEST)  # of log b
    x = 0.0
    for _ in range(100):
        b = math.exp(x)
        slope, curvature = derivatives(b)
        low, high = (low, x) if slope > 0 else (x, high)
        step = slope / (b * curvature) if curvature > 0 else math.inf
        new = x - step if low < x - step < high else (low + high) / 2
        if abs(new - x) < 1e-12:
            break
        x = new
    return math.exp(-x)


def remark(temperature: float) -> str | None:
    """What a person should know of a fitted temperature; None: nothing."""
    if temperature < HOTTEST:
        return None
    return (
        f"the temperature is at its limit of {HOTTEST:g}: on the validation images the network was "
        "hardly better than chance, so its confidence says nothing"
    )


def choose_threshold(
    logits: Tensor, labels: Tensor, *, temperature: float = 1.0, rejected: float = REJECTED
) -> float | None:
    """The confidence below which an answer should be "none of these".

    It is the highest one that rejects at most the share ``rejected`` of the right answers, so what
    it costs is known, whatever the number of classes; what it gains (wrong answers and unknown
    images rejected) is for ``evaluate`` to report.

    Args:
        logits: (n, classes), of images that the network was not trained on.
        labels: int64 (n,).
        temperature: Divides the logits.
        rejected: Share of the right answers that may fall below the threshold.

    Returns:
        A probability; None where there are too few right answers to tell (fewer than
        1 / ``rejected``).
    """
    confidence, predicted = (logits.double() / temperature).softmax(1).max(1)
    right = confidence[predicted == labels].sort().values
    may_fall = math.floor(rejected * len(right) + 1e-9)
    return float(right[may_fall]) if may_fall else None


@torch_defaults()
def calibrated(
    checkpoint: Checkpoint, val: Dataset, execution: Execution | str = REPRODUCIBLE
) -> Checkpoint:
    """The same network with temperature and threshold fitted to its validation split.

    By default it is computed in fp32, so that the two do not depend on the machine.
    """
    batches = list(logit_batches(TorchBackend.load(checkpoint, execution), val))
    logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return calibrated_by(checkpoint, logits, labels)


def calibrated_by(checkpoint: Checkpoint, logits: Tensor, labels: Tensor) -> Checkpoint:
    """The same by what it computes of its validation images: (n, classes), int64 (n,)."""
    temperature = fit_temperature(logits, labels)
    threshold = choose_threshold(logits, labels, temperature=temperature)
    return replace(checkpoint, temperature=temperature, threshold=threshold)
