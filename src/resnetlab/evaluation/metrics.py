"""What is counted of a network's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnetlab.environment import matplotlib_importable

if TYPE_CHECKING:
    from torchmetrics import Metric

CALIBRATION_BINS = 15
"""of equal width, as in Guo et al. 2017 (https://arxiv.org/abs/1706.04599)"""


def tally(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross entropy in nats, correct predictions and images of a batch: float64 (3,).

    Batches, and the shares of several processes, are added up and divided at the end, so that
    every image counts once. The same for validation and for evaluation.
    """
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss, right.double(), loss.new_tensor(len(labels))])


class Scores:
    """All that an evaluation reports, counted batch by batch.

    No logits are kept: of each image two floats, for the calibration error, are.
    """

    def __init__(self, classes: int) -> None:
        with matplotlib_importable():  # which torchmetrics imports
            from torchmetrics.classification import (
                MulticlassCalibrationError,
                MulticlassConfusionMatrix,
                MulticlassF1Score,
                MulticlassPrecision,
                MulticlassRecall,
                MulticlassStatScores,
            )
        # Rank 0 evaluates alone: a metric that waited for the other ranks would wait for ever.
        options: dict[str, Any] = {"num_classes": classes, "sync_on_compute": False}
        options["validate_args"] = False  # it would refuse a single class
        top5 = {"top_k": min(5, classes), "average": "micro"}
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._of_logits: dict[str, Metric] = {
            "top5": MulticlassStatScores(**top5, **options),
            "precision": MulticlassPrecision(average=None, **options).set_dtype(torch.float64),
            "recall": MulticlassRecall(average=None, **options).set_dtype(torch.float64),
            "f1": MulticlassF1Score(average=None, **options).set_dtype(torch.float64),
            "confusion": MulticlassConfusionMatrix(**options),
        }
        self._calibration = MulticlassCalibrationError(n_bins=CALIBRATION_BINS, **options)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """A batch: fp32 (n, classes), int64 (n,), both on the CPU."""
        self._sums += tally(logits, labels)
        for metric in self._of_logits.values():
            metric.update(logits, labels)
        self._calibration.update(logits.double().softmax(1), labels)

    def result(self) -> dict[str, Any]:
        """The fields of ``Evaluation`` that are measured."""
        loss, right, n = self._sums.tolist()
        found = {name: metric.compute() for name, metric in self._of_logits.items()}
        return {
            "top1": 100 * right / n,
            "top5": 100 * int(found["top5"][0]) / n,  # of true positives, false ones, ...
            "loss": loss / n,
            "n": int(n),
            "calibration_error": 100 * self._calibration.compute().item(),
            "confusion": found["confusion"],
            **{name: 100 * found[name] for name in ("precision", "recall", "f1")},
        }
