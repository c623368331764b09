"""How good a network is: accuracy and loss, in all and class by class; in percent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix

from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.dataset import Dataset
from resnetlab.data.prefetch import load_batches
from resnetlab.data.sampling import evaluation_batches
from resnetlab.errors import UserError
from resnetlab.evaluation.metrics import tally
from resnetlab.inference.prepare import (
    TTA,
    compute_logits,
    inference_batch_size,
    inference_execution,
    ready_for_inference,
)
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint

REPRODUCIBLE = "channels_last"
"""How networks are judged unless asked otherwise: in fp32, so that a number which is reported does
not depend on whether the machine has bf16, which changes 18 of resnet20-cifar10's 10,000 answers
and its accuracy from 90.36 to 90.35 %."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A network's result on one split of a data set."""

    dataset: str
    split: str
    top1: float
    """%"""
    top5: float
    """%"""
    loss: float
    """mean cross entropy, nats"""
    n: int
    """images"""
    classes: tuple[str, ...]
    confusion: Tensor
    """images of class i taken for class j, int64 (classes, classes)"""
    tta: TTA = "none"
    """test-time augmentation"""

    def per_class(self) -> list[dict[str, Any]]:
        """For each class its name, precision, recall and F1 in % (0 where undefined), and n."""
        right = self.confusion.diagonal().double()
        of_class, taken_for = self.confusion.sum(1), self.confusion.sum(0)
        columns = {
            "precision": right / taken_for.clamp(min=1),
            "recall": right / of_class.clamp(min=1),
            "f1": 2 * right / (of_class + taken_for).clamp(min=1),
        }
        return [
            {"class": name}
            | {key: 100 * values[i].item() for key, values in columns.items()}
            | {"n": int(of_class[i])}
            for i, name in enumerate(self.classes)
        ]

    def to_dict(self) -> dict[str, Any]:
        """What `evaluate --json` prints."""
        keys = ("dataset", "split", "tta", "top1", "top5", "loss", "n")
        values = {key: getattr(self, key) for key in keys}
        return values | {"per_class": self.per_class(), "confusion": self.confusion.tolist()}


def logit_batches(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    execution: Execution = PLAIN,
    tta: TTA = "none",
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's share as (logits fp32 (n, classes), labels int64 (n,)), batch by batch.

    The model must be placed and in eval mode; see ``inference_batch_size`` for the default.
    """
    if batch_size is None:
        batch_size = inference_batch_size(dataset.preprocessing.size)
    shares = evaluation_batches(len(dataset), batch_size, rank, world_size)
    for _, (images, labels) in load_batches(dataset, shares):
        logits = compute_logits(model, images, dataset.preprocessing, execution=execution, tta=tta)
        yield logits, labels.to(execution.device)


def evaluate_model(
    model: nn.Module,
    dataset: Dataset,
    *,
    execution: Execution = PLAIN,
    tta: TTA = "none",
) -> Evaluation:
    """Evaluate a network (placed, in eval mode) on every image of ``dataset`` once."""
    batches = list(logit_batches(model, dataset, execution=execution, tta=tta))
    logits = torch.cat([logits for logits, _ in batches]).cpu()
    labels = torch.cat([labels for _, labels in batches]).cpu()
    classes = len(dataset.classes)
    if logits.size(1) != classes:
        raise UserError(
            f"the network has {logits.size(1)} outputs and {dataset.name} has {classes} classes."
        )
    loss, right, n = tally(logits, labels).tolist()
    ranked = logits.topk(min(5, classes)).indices == labels[:, None]
    return Evaluation(
        dataset=dataset.name,
        split=dataset.split,
        top1=100 * right / n,
        top5=100 * int(ranked.any(1).sum()) / len(labels),
        loss=loss / n,
        n=len(labels),
        classes=dataset.classes,
        confusion=multiclass_confusion_matrix(logits.argmax(1), labels, classes),
        tta=tta,
    )


def dataset_of(
    checkpoint: Checkpoint,
    split: Literal["val", "test"] = "test",
    *,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
) -> Dataset:
    """The images to judge a network by, with the network's own normalisation if it is known.

    The data set is that of its training unless named, out of the same ``data_dir`` if that is
    still there; "val" is the part that its training set aside. Raises UserError for a split or
    data set that there is not, or does not fit.
    """
    if split not in ("val", "test"):
        raise UserError(f"`split` must be val or test, not {split!r}.")
    name = dataset or checkpoint.dataset
    if name is None:
        raise UserError("it is not known what the network was trained on; name it: `dataset`.")
    recipe = checkpoint.recipe
    if split == "val" and "val_size" not in recipe:
        raise UserError("it is not known which images its training set aside; take `split` test.")
    own = recipe.get("data_dir")
    if not data_dir and not dataset and own and Path(own).is_dir():
        data_dir = own
    data = load_dataset(
        name,
        split,
        data_dir=Path(data_dir) if data_dir else None,
        val_size=recipe.get("val_size", 5000),
        split_seed=recipe.get("split_seed", 0),
    )
    if not len(data):
        raise UserError(f"its training set no images of {name} aside; take `split` test.")
    channels, outputs = checkpoint.architecture.in_channels, checkpoint.architecture.num_classes
    has = data.preprocessing.channels
    if has != channels:
        raise UserError(f"the network takes {channels}-channel images and {data.name} has {has}.")
    if len(data.classes) != outputs:
        raise UserError(
            f"the network has {outputs} outputs and {data.name} has {len(data.classes)} classes."
        )
    preprocessing = checkpoint.preprocessing
    if "preprocessing" in checkpoint.guessed:  # then the data set's own is the better guess
        preprocessing = replace(data.preprocessing, size=preprocessing.size)
    return data.prepared(preprocessing)


def evaluate(
    run: str | Path | Checkpoint,
    *,
    split: Literal["val", "test"] = "test",
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    model: str | None = None,
    execution: Execution | str = REPRODUCIBLE,
    tta: TTA = "none",
) -> Evaluation:
    """Evaluate the best network of a run folder, or of any file, on ``split`` (val or test).

    ``model`` names the architecture of a foreign file that cannot tell it; ``execution`` is in
    fp32 by default, see ``REPRODUCIBLE``; ``tta`` is test-time augmentation, see
    ``inference.TTA``. Raises UserError, one sentence, for a path, a split, a data set, a word of
    the execution or a tta that there is not.
    """
    if tta not in get_args(TTA):
        raise UserError(f"`tta` must be none, flip or flip-shift, not {tta!r}.")
    how = inference_execution(execution)
    checkpoint = run if isinstance(run, Checkpoint) else load_checkpoint(run, model=model)
    data = dataset_of(checkpoint, split, dataset=dataset, data_dir=data_dir)
    ready = ready_for_inference(checkpoint.build(), how)
    return evaluate_model(ready, data, execution=how, tta=tta)
