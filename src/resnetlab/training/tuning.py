"""What a network that knows something already keeps while it is trained, and until when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.models.resnet import ResNet
from resnetlab.recipes.record import Recipe
from resnetlab.runs import best_epoch

HEAD = "fc"
"""The classifier's name in every network."""


def begin_epoch(recipe: Recipe, model: ResNet, epoch: int) -> None:
    """Put ``model`` into training mode, but for what is frozen in this epoch.

    Frozen layers are in evaluation mode and get no gradients, so that a step spends nothing on
    them. It follows from the recipe and the epoch alone, as whatever a resumed run must repeat.
    """
    model.train()
    frozen = _frozen_stages(recipe, model, epoch)
    ever = max(_frozen_stages(recipe, model, 0), frozen)
    names = _up_to_stage(model, ever)
    still = set(_up_to_stage(model, frozen))
    for name in names:
        module = model.get_submodule(name)
        module.train(name not in still)
        if not (name == "conv1" and model.architecture.stem == "whitening"):  # fixed filters
            module.requires_grad_(name not in still)
    if recipe.norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _frozen_stages(recipe: Recipe, model: ResNet, epoch: int) -> int:
    """How many stages, from the stem on, are frozen in an epoch."""
    if epoch < _epochs_of_later_stages(recipe):
        return max(recipe.frozen_stages, len(model.stage_names) // 2)
    return recipe.frozen_stages


def _up_to_stage(model: ResNet, stages: int) -> list[str]:
    """Names of the stem's layers and of the first stages; none for 0 stages."""
    if not stages:
        return []
    names = [name for name, _ in model.named_children()]
    return names[: names.index(model.stage_names[stages - 1]) + 1]


def class_weights(recipe: Recipe, labels: Tensor, classes: int) -> Tensor | None:
    """What an error counts by its class, fp32 (classes,), 1 on average over the images.

    Inverse to the number of images; a class without images counts nothing. None: all count alike.
    """
    if recipe.class_weights == "none":
        return None
    counts = torch.bincount(labels, minlength=classes)
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(labels) / (present * counts.clamp_min(1)), 0.0)


def is_out_of_patience(recipe: Recipe, history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ``patience`` epochs have brought no better validation result.

    Those in which earlier stages are still frozen, or images are small, do not count: what follows
    may yet gain.
    """
    if not recipe.patience or not history or history[-1]["val_top1"] is None:
        return False
    best = history[best_epoch(history)]["epoch"]
    early = math.ceil(recipe.early_share * recipe.epochs) if recipe.early_size else 0
    since = max(best, early, _epochs_of_later_stages(recipe))
    return history[-1]["epoch"] - since >= recipe.patience


def _epochs_of_later_stages(recipe: Recipe) -> int:
    """Epochs, from the first, in which only the later half of the stages is trained."""
    return round(recipe.unfreeze_share * recipe.epochs)
