"""How good a network is: accuracy, loss and calibration, overall and per class; in percent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from resnetlab.arguments import check_types
from resnetlab.compute import distributed
from resnetlab.compute.cores import on_fewer_where_faster
from resnetlab.compute.distributed import World
from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.console import print_to_stderr, progress
from resnetlab.data.catalogue import is_own
from resnetlab.data.dataset import Dataset
from resnetlab.data.prefetch import load_batches
from resnetlab.data.sampling import evaluation_batches
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.classes import in_order_of
from resnetlab.evaluation.result import Evaluation
from resnetlab.evaluation.source import open_for
from resnetlab.files import WriteError, is_address
from resnetlab.inference.backends import Backend, TorchBackend
from resnetlab.inference.choice import BackendName, open_backend
from resnetlab.inference.exported import Exported
from resnetlab.inference.network import load_network
from resnetlab.inference.prepare import inference_batch_size, inference_execution
from resnetlab.inference.tta import TTA, logits_with_tta
from resnetlab.models.architecture import Architecture
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import Checkpoint

REPRODUCIBLE = "channels_last"
"""How networks are evaluated by default: in fp32, so that a reported number does not depend on
whether the machine has bf16, which changes 18 of resnet20-cifar10's 10,000 predictions and its
accuracy from 90.36 to 90.35 %."""


def logit_batches(
    backend: Backend,
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    tta: TTA = "none",
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's share as (logits fp32 (n, classes), labels int64 (n,)), batch by batch.

    Images are arranged as the backend takes them; see ``inference_batch_size`` for the default.
    """
    dataset = dataset.prepared(backend.preprocessing)
    batch_size = batch_size or inference_batch_size(backend.preprocessing.size)
    shares = evaluation_batches(len(dataset), batch_size, rank, world_size)
    for _, (images, labels) in load_batches(dataset, shares):
        yield logits_with_tta(backend, images, tta), labels


def progress_batches(
    backend: Backend, dataset: Dataset, *, tta: TTA = "none", world: World | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """``logit_batches`` of this process's share, with progress on a terminal."""
    rank, size = world.share if world else (0, 1)
    total = math.ceil(len(dataset) / size / inference_batch_size(backend.preprocessing.size))
    what = f"evaluating on {dataset.name}, {dataset.split}"
    batches = logit_batches(backend, dataset, tta=tta, rank=rank, world_size=size)
    if rank:
        return batches
    batches = on_fewer_where_faster(batches, torch.get_num_threads(), print_to_stderr)
    return progress(batches, total, what)


@torch_defaults()
def evaluate_backend(backend: Backend, dataset: Dataset, *, tta: TTA = "none") -> Evaluation:
    """Evaluate on every image of ``dataset`` once; under torchrun, the processes share the images.

    The logits stand in the order of the data set's classes; see ``in_order_of``.
    """
    classes = len(dataset.classes)
    parts = []
    with distributed.start() as world:
        for logits, labels in progress_batches(backend, dataset, tta=tta, world=world):
            if logits.size(1) != classes:
                raise UserError(
                    f"the network has {logits.size(1)} outputs and {dataset.name} has {classes} "
                    "classes."
                )
            parts.append(Answers.read(logits, labels, backend.temperature))
        parts = [part for share in world.gather_objects(parts) for part in share]
    return Evaluation(
        dataset=dataset.name,
        split=dataset.split,
        classes=dataset.classes,
        answers=Answers.join(parts),
        temperature=backend.temperature,
        threshold=backend.threshold,
        tta=tta,
    )


def evaluate_model(
    model: nn.Module,
    dataset: Dataset,
    *,
    execution: Execution = PLAIN,
    tta: TTA = "none",
) -> Evaluation:
    """Evaluate a network on every image of ``dataset`` once.

    It is placed and in eval mode, and its outputs stand in the order of the data set's classes.
    """
    backend = TorchBackend(
        model=model,
        classes=dataset.classes,
        preprocessing=dataset.preprocessing,
        execution=execution,
    )
    return evaluate_backend(backend, dataset, tta=tta)


def dataset_of(
    checkpoint: Checkpoint | Exported,
    split: Literal["val", "test"] = "test",
    *,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    split_file: str | Path | None = None,
) -> Dataset:
    """The images to evaluate on, with the network's own preprocessing if it is known.

    The data set is that of its training unless named, out of the same ``data_dir`` if that is
    still there; "val" is its training's validation split (see ``open_for``). Raises UserError for
    an unknown data set, a split that there is not, and images that the network cannot take.
    """
    if split not in ("val", "test"):
        raise UserError(f"`split` must be val or test, not {split!r}.")
    name = dataset or checkpoint.dataset
    if name is None:
        raise UserError("it is not known what the network was trained on; name it: `dataset`.")
    if split == "val" and "val_size" not in checkpoint.recipe and not is_own(name):
        raise UserError("this network's validation split is unknown; take `split` test.")
    divided = open_for(checkpoint, name, data_dir=data_dir, split_file=split_file)
    if split == "test" and not divided.has("test"):
        other = "take `split` val" if divided.has("val") else "name another `dataset`"
        raise UserError(f"{name} has no test split; {other}.")
    if split == "val" and not divided.has("val"):
        raise UserError(
            f"{name} has no validation split: the network was trained on all images; "
            "take `split` test."
        )
    data = divided.part(split, checkpoint.classes)
    channels, has = checkpoint.preprocessing.channels, data.preprocessing.channels
    if has != channels and not is_own(name):
        raise UserError(f"the network takes {channels}-channel images and {data.name} has {has}.")
    preprocessing = checkpoint.preprocessing
    if "preprocessing" in checkpoint.guessed and has == channels:  # the data's is a better guess
        preprocessing = replace(data.preprocessing, size=preprocessing.size)
    return data.prepared(preprocessing)


def backend_for(
    network: Checkpoint | Exported,
    dataset: Dataset,
    execution: Execution | str,
    backend: BackendName | None = None,
) -> Backend:
    """The network, ready for the images and the classes of ``dataset_of``."""
    if isinstance(network, Checkpoint):
        network = replace(network, preprocessing=dataset.preprocessing)
    return in_order_of(dataset, open_backend(network, backend, execution))


@check_types
@torch_defaults()
def evaluate(
    run: str | Path | Checkpoint | Exported,
    *,
    split: Literal["val", "test"] = "test",
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    split_file: str | Path | None = None,
    backend: BackendName | None = None,
    execution: Execution | str = REPRODUCIBLE,
    tta: TTA = "none",
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: str | Path | Sequence[str] | None = None,
    per_image: str | Path | None = None,
) -> Evaluation:
    """Evaluate the best network of a run folder, or of any file.

    In a run folder the result is kept in evaluation.json, unless it is of another data set.

    Args:
        run: A run folder, a Checkpoint, another source of ``load_checkpoint``, or a file or bundle
            of ``resnetlab export``.
        split: "test", or "val": the validation split of the network's training.
        dataset: A data set, as for ``load_dataset``; by default that of the network's training.
        data_dir: Folder that already holds the data set.
        split_file: Which of your own images is for what, where it is not the run's split.csv.
        backend: What computes it, see ``Predictor``.
        execution: How to compute; in fp32 by default, see ``REPRODUCIBLE``.
        tta: Test-time augmentation, see ``inference.tta.TTA``.
        model, model_overrides, mean, std, classes: What a foreign file does not tell; see
            ``load_network``.
        per_image: CSV to write, a row an image; see ``Evaluation.write_per_image``.

    Raises:
        UserError: A path, split, data set, word of the execution or tta that there is not, a
            data set of other images or classes, or a file that cannot be written.
    """
    if tta not in get_args(TTA):
        raise UserError(f"`tta` must be none, flip or flip-shift, not {tta!r}.")
    execution = inference_execution(execution)  # a wrong word is said before anything is loaded
    checkpoint = load_network(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    data = dataset_of(checkpoint, split, dataset=dataset, data_dir=data_dir, split_file=split_file)
    ready = backend_for(checkpoint, data, execution, backend)
    found = evaluate_backend(ready, data, tta=tta)
    if per_image and distributed.is_main():
        found.write_per_image(data, per_image)
    if dataset is None:
        keep(run, found.key, found.to_dict())
    return found


def keep(run: str | Path | Checkpoint | Exported, key: str, values: Mapping[str, Any]) -> None:
    """Write what was found to the run's evaluation.json, if it is a run folder that we may change.

    A folder that cannot be written is reported; what was found is not lost with it.
    """
    if not isinstance(run, str | Path) or is_address(run) or not (folder := Run(run)).exists:
        return
    if not distributed.is_main():
        return
    try:
        folder.write_evaluation(key, values)
    except WriteError as error:
        print_to_stderr(f"{error.fault}; the result is not kept there")
