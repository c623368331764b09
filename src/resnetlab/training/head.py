"""The classifier alone, fitted on the features of a network that stays as it is.

The network sees each image once, or a few times augmented; what it computes of them is kept, and on
that the classifier is a convex problem of seconds (linear probing; as the start of a fine-tuning,
Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.compute.distributed import World
from resnetlab.compute.machine import peak_memory_mb
from resnetlab.console import progress
from resnetlab.data.dataset import Dataset
from resnetlab.data.images import normalize
from resnetlab.data.prefetch import load_batches
from resnetlab.data.sampling import evaluation_batches, stratified_indices
from resnetlab.evaluation.linear import Linear, best_on, penalty_path
from resnetlab.evaluation.metrics import tally
from resnetlab.inference.prepare import inference_batch_size, ready_for_inference
from resnetlab.models.resnet import ResNet
from resnetlab.training.interrupt import stop_signal
from resnetlab.training.plan import Plan
from resnetlab.training.state import State
from resnetlab.training.step import make_batch
from resnetlab.training.tuning import HEAD


def fit_head(plan: Plan, state: State, world: World) -> dict[str, Any]:
    """Fit the classifier of ``state``, in place; the line of metrics.jsonl for epoch 0.

    Logistic regression on standardised features, its L2 penalty the one with the lowest loss on the
    validation images or, where there are none, on a fifth of the training images.
    """
    began = time.perf_counter()
    with stop_signal() as stop:
        network, views = state.evaluated, plan.recipe.head_views
        train, labels = features(plan, network, plan.data, world, stop, views)
        val = features(plan, network, plan.val, world, stop) if plan.val is not None else None
    seconds = time.perf_counter() - began
    head = fit(train, labels, val, plan)
    for network in {state.model, state.evaluated}:
        fc = network.get_submodule(HEAD)
        assert isinstance(fc, nn.Linear)
        with torch.no_grad():
            fc.weight.copy_(head.weight)
            fc.bias.copy_(head.bias)
        world.copy_from_main((fc.weight.data, fc.bias.data))
    line = {"epoch": 0, "step": 0, "lr": 0.0} | _scores("train", head, train, labels)
    line |= _scores("val", head, *val) if val else {"val_loss": None, "val_top1": None}
    state.val_logits = (head(val[0]), val[1]) if val else None
    images = len(labels) + (len(val[1]) if val else 0)
    return line | {
        "images_per_second": images / seconds,
        "seconds": time.perf_counter() - began,
        "peak_memory_mb": peak_memory_mb(plan.execution.device),
    }


def features(
    plan: Plan,
    model: ResNet,
    dataset: Dataset,
    world: World,
    stop: threading.Event,
    views: int = 1,
) -> tuple[Tensor, Tensor]:
    """What the classifier reads of each image, fp32 (views * n, d), and the labels, int64.

    The first view is the image as it is evaluated, the others are augmented. Raises
    KeyboardInterrupt if ``stop`` is set meanwhile.
    """
    execution = replace(plan.execution, mode="eager")
    backbone = ready_for_inference(model.eval(), execution)
    backbone.fc = nn.Identity()
    width = model.architecture.stage_outputs[-1]
    found = torch.zeros(views, len(dataset), width)
    size = inference_batch_size(plan.data.preprocessing.size)
    shares = list(evaluation_batches(len(dataset), size, world.rank, world.size))
    for view in range(views):
        what = f"computing features of {dataset.name}, {dataset.split}"
        what += f", view {view + 1} of {views}" if views > 1 else ""
        loaded = _as_evaluated(dataset, shares) if view == 0 else _augmented(plan, shares, view)
        for indices, inputs in progress(loaded, len(shares), what):
            inputs = inputs.to(execution.device, memory_format=execution.memory_format)
            with torch.inference_mode(), execution.autocast():
                found[view, indices] = backbone(inputs).float().cpu()
            if stop.is_set() and world.size == 1:
                raise KeyboardInterrupt
    if world.largest(stop.is_set()):
        raise KeyboardInterrupt
    return world.sum(found).flatten(0, 1), dataset.labels.repeat(views)


def _as_evaluated(dataset: Dataset, shares: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    for indices, (images, _) in load_batches(dataset, shares):
        yield indices, normalize(images, dataset.preprocessing)


def _augmented(plan: Plan, shares: list[Tensor], view: int) -> Iterator[tuple[Tensor, Tensor]]:
    unmixed = replace(plan.augmentation, mixup=0.0, cutmix=0.0)  # whose labels are whole
    plan = replace(plan, augmentation=unmixed, early_steps=0)
    for indices in shares:
        first = int(indices[0])  # tells the batches of all ranks apart
        yield indices, make_batch(plan, indices, epoch=view - 1, step=first)[0]


def fit(inputs: Tensor, labels: Tensor, val: tuple[Tensor, Tensor] | None, plan: Plan) -> Linear:
    """The best classifier of features (n, d), labels int64 (n,)."""
    mean, std = inputs.mean(0), inputs.std(0).clamp_min(1e-6)
    inputs = (inputs - mean) / std
    if val is not None:
        tried = ((val[0] - mean) / std, val[1])
        _, head = best_on(*tried, _path(inputs, labels, plan))
    else:
        views = len(labels) // len(plan.data)
        held = stratified_indices(plan.data.labels, max(1, len(plan.data) // 5))
        is_held = torch.zeros(len(plan.data), dtype=torch.bool).index_fill(0, held, True)
        rest = ~is_held.repeat(views)
        first = is_held.nonzero().flatten()  # as they are
        tried = (inputs[first], labels[first])
        path = _path(inputs[rest], labels[rest], plan)
        best, _ = best_on(*tried, path)
        *_, (_, head) = _path(inputs, labels, plan, down_to=best)
    return Linear(head.weight / std, head.bias - head.weight @ (mean / std))


def _path(
    inputs: Tensor, labels: Tensor, plan: Plan, down_to: float = 0.0
) -> Iterator[tuple[float, Linear]]:
    """The classifier of each penalty, with the losses of the recipe."""
    classes, weights = len(plan.data.classes), plan.class_weights
    if plan.recipe.balanced == "sampling":
        counts = torch.bincount(labels, minlength=classes)
        weights = len(labels) / (classes * counts.clamp_min(1))
    return penalty_path(
        inputs,
        labels,
        classes,
        class_weights=weights,
        label_smoothing=plan.recipe.label_smoothing,
        down_to=down_to,
    )


def _scores(split: str, head: Linear, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    loss, right, n = tally(head(inputs), labels).tolist()
    return {f"{split}_loss": loss / n, f"{split}_top1": 100 * right / n}
