"""A network's result on one split of a data set; in percent."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnetlab.data.dataset import Dataset, Subset
from resnetlab.evaluation import metrics
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.metrics import Bin, Interval, wilson
from resnetlab.files import user_path, write_text
from resnetlab.inference.tta import TTA

MISTAKES = 12
"""Of an evaluation, the most confident ones, so many are kept with it."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A network's result on one split of a data set; intervals are of 95 %."""

    dataset: str
    split: str
    classes: tuple[str, ...]
    answers: Answers
    """to each image, in the order of the split"""
    temperature: float = 1.0
    """of the network: what logits are divided by, so that confidence is honest"""
    threshold: float | None = None
    """of the network: probability below which the answer is "none of these" """
    tta: TTA = "none"
    """test-time augmentation"""

    @property
    def key(self) -> str:
        """Under which a run keeps it: "test", or "test, flip" with test-time augmentation."""
        return self.split if self.tta == "none" else f"{self.split}, {self.tta}"

    @property
    def n(self) -> int:
        """images"""
        return len(self.answers)

    @property
    def top1(self) -> float:
        """%"""
        return 100 * int(self.answers.right.sum()) / self.n

    @property
    def top1_interval(self) -> Interval:
        return wilson(int(self.answers.right.sum()), self.n)

    @property
    def top5(self) -> float:
        """%"""
        return 100 * int((self.answers.rank < 5).sum()) / self.n

    @property
    def top5_interval(self) -> Interval:
        return wilson(int((self.answers.rank < 5).sum()), self.n)

    @property
    def loss(self) -> float:
        """Mean cross entropy, nats, of the logits as they are (negative log likelihood)."""
        return float(self.answers.raw_loss.mean())

    @property
    def tempered_loss(self) -> float:
        """The same after the temperature."""
        return float(self.answers.loss.mean())

    @cached_property
    def confusion(self) -> Tensor:
        """Images of class i taken for class j, int64 (classes, classes)."""
        c = len(self.classes)
        pairs = self.answers.labels * c + self.answers.predicted
        return torch.bincount(pairs, minlength=c * c).view(c, c)

    @cached_property
    def _per_class(self) -> tuple[Tensor, Tensor, Tensor]:
        """Right answers, images and predictions of each class."""
        return self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)

    @property
    def recall(self) -> Tensor:
        """%, float64 (classes,), 0 where undefined; precision and f1 likewise."""
        hits, n, _ = self._per_class
        return 100 * hits / n.double().clamp(min=1)

    @property
    def precision(self) -> Tensor:
        hits, _, predicted = self._per_class
        return 100 * hits / predicted.double().clamp(min=1)

    @property
    def f1(self) -> Tensor:
        hits, n, predicted = self._per_class
        return 200 * hits / (n + predicted).double().clamp(min=1)

    @property
    def balanced_accuracy(self) -> float:
        """%: mean of the classes' recalls, so that rare classes count as much as common ones."""
        return metrics.balanced_accuracy(*self._per_class[:2])

    @cached_property
    def balanced_accuracy_interval(self) -> Interval:
        return metrics.balanced_interval(*self._per_class[:2])

    @cached_property
    def reliability(self) -> list[Bin]:
        """Accuracy by confidence, after the temperature."""
        return metrics.reliability(self.answers.confidence, self.answers.right)

    @cached_property
    def raw_reliability(self) -> list[Bin]:
        """Accuracy by confidence, before the temperature."""
        return metrics.reliability(self.answers.raw_confidence, self.answers.right)

    @property
    def calibration_error(self) -> float:
        """%: how far confidence and accuracy lie apart, on average over the images, which are
        grouped by confidence in ``CALIBRATION_BINS`` bins, before the temperature (expected
        calibration error, Guo et al. 2017)."""
        return metrics.calibration_error(self.raw_reliability)

    @property
    def tempered_calibration_error(self) -> float:
        """The same after the temperature."""
        return metrics.calibration_error(self.reliability)

    @property
    def selective(self) -> list[dict[str, Any]]:
        """Accuracy of the surest answers, by coverage; see ``metrics.selective``."""
        return metrics.selective(self.answers.confidence, self.answers.right)

    @property
    def none_of_these(self) -> dict[str, float] | None:
        """What the network's threshold rejects; None if it has none."""
        if self.threshold is None:
            return None
        return metrics.rejections(self.answers.confidence, self.answers.right, self.threshold)

    @property
    def mistakes(self) -> list[dict[str, Any]]:
        """The most confident ones: the image's number in the split, its class, the predicted class
        and the confidence in %."""
        a = self.answers
        wrong = torch.nonzero(~a.right).flatten()
        surest = wrong[a.confidence[wrong].argsort(descending=True, stable=True)][:MISTAKES]
        return [
            {
                "image": i,
                "true": self.classes[int(a.labels[i])],
                "predicted": self.classes[int(a.predicted[i])],
                "confidence": 100 * float(a.confidence[i]),
            }
            for i in surest.tolist()
        ]

    def per_class(self) -> list[dict[str, Any]]:
        """For each class its name, precision, recall and F1 in % (0 where undefined), and n.

        Precision and recall have intervals.
        """
        hits, n, predicted = (column.tolist() for column in self._per_class)
        columns = {
            "class": self.classes,
            "precision": self.precision.tolist(),
            "precision_interval": list(map(wilson, hits, predicted)),
            "recall": self.recall.tolist(),
            "recall_interval": list(map(wilson, hits, n)),
            "f1": self.f1.tolist(),
            "n": n,
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """What ``resnetlab evaluate --json`` prints, as JSON will give it back."""
        keys = ("dataset", "split", "tta", "n", "top1", "top1_interval", "top5", "top5_interval")
        keys += ("balanced_accuracy", "balanced_accuracy_interval", "loss", "tempered_loss")
        keys += ("temperature", "calibration_error", "tempered_calibration_error")
        values: dict[str, Any] = {key: getattr(self, key) for key in keys}
        values |= {"selective": self.selective, "none_of_these": self.none_of_these}
        values["mistakes"] = self.mistakes
        values |= {
            "reliability": [b.to_dict() for b in self.reliability],
            "raw_reliability": [b.to_dict() for b in self.raw_reliability],
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
        }
        return _plain(values)

    def write_per_image(self, dataset: Dataset, out: str | Path) -> Path:
        """A CSV with a row an image of ``dataset``, which this is the evaluation of.

        Columns: image (its path, or its number in the split), true, predicted, confidence and
        probability of the true class in %, rank of the true class from 1, right (0 or 1).
        """
        path, a = user_path(out), self.answers
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        names = ("image", "true", "predicted", "confidence", "true_probability", "rank", "right")
        rows.writerow(names)
        columns = (a.labels, a.predicted, 100 * a.confidence, 100 * (-a.loss).exp(), a.rank + 1)
        for i, (true, predicted, confidence, probability, rank) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            names = (self.classes[true], self.classes[predicted])
            numbers = (f"{confidence:.4f}", f"{probability:.4f}", rank, int(true == predicted))
            rows.writerow((image_name(dataset, i), *names, *numbers))
        write_text(path, text.getvalue())
        return path


def image_name(dataset: Any, index: int) -> str:
    """The path of a sample where images are files, or else its number."""
    while isinstance(dataset, Subset):
        dataset, index = dataset.whole, int(dataset.indices[index])
    samples = getattr(dataset, "samples", None)
    name = str(index) if samples is None else str(samples.path_of(index))
    return name.encode("utf-8", "backslashreplace").decode()  # names that are not UTF-8


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
