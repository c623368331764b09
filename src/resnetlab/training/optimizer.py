"""Which parameters are trained how, and how the learning rate moves."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn, optim

from resnetlab.recipes.record import Recipe
from resnetlab.training.muon import step_by_muon


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """Weights decay; norms and biases (one-dimensional) do not, unless the recipe says "all".

    One group for each, or for each layer where the layers' learning rates differ.
    """
    layers = _layers(model)
    groups: dict[tuple, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_weight, is_head = parameter.dim() > 1, name.startswith("fc.")
        rate = recipe.lr if is_weight else recipe.norm_lr or recipe.lr
        below = layers.index(_layer(name))
        rate *= recipe.layer_decay**below
        if is_head and recipe.head_lr:
            rate = recipe.head_lr
        decays = is_weight or recipe.weight_decay_on == "all"
        key = (
            not is_weight,
            below if recipe.layer_decay != 1 else 0,
            is_head and recipe.head_lr is not None,
        )
        group = {"params": [], "weight_decay": recipe.weight_decay if decays else 0.0, "lr": rate}
        groups.setdefault(key, group)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _layers(model: nn.Module) -> list[str]:
    """The classifier, the blocks from the last to the first, the stem."""
    names = dict.fromkeys(_layer(name) for name, _ in model.named_parameters())
    blocks = [name for name in names if name not in ("head", "stem")]
    return ["head", *reversed(blocks), "stem"]


def _layer(name: str) -> str:
    """The layer that a parameter belongs to; the norm before the classifier is part of that."""
    block = re.match(r"layer\d+\.\d+", name)
    return block[0] if block else "head" if name.startswith(("fc.", "bn.")) else "stem"


def create_optimizer(
    model: nn.Module, recipe: Recipe, dtype: torch.dtype = torch.float32
) -> optim.Optimizer:
    """SGD with momentum, Nesterov's if the recipe says so, or Muon for the convolutions.

    ``dtype`` is that of Muon's large products; weights and momentum keep their own.
    """
    options = {"lr": recipe.lr, "momentum": recipe.momentum, "foreach": True}
    options["nesterov"] = recipe.optimizer != "sgd"
    groups = parameter_groups(model, recipe)
    if recipe.optimizer != "muon":
        return optim.SGD(groups, **options)
    muon = {"muon": True, "muon_momentum": recipe.muon_momentum}
    muon |= {"weight_decay": 0.0, "momentum": 0.0, "nesterov": False}
    of_muon = []
    for group in groups:
        convolutions = [p for p in group["params"] if p.dim() == 4]
        group["params"] = [p for p in group["params"] if p.dim() != 4]
        if convolutions:
            rate = recipe.muon_lr * (group["lr"] / recipe.lr)
            of_muon.append({"params": convolutions, "lr": rate, **muon})
    optimizer = optim.SGD([*groups, *of_muon], **options)
    step_by_muon(optimizer, dtype)
    return optimizer


def lr_factor(recipe: Recipe, epoch: float) -> float:
    """The learning rate at a moment of training, as a share of ``recipe.lr``; epoch may be 1.5."""
    warmup = recipe.warmup_length
    if epoch < warmup:
        return 0.1 if recipe.warmup == "constant" else 0.1 + 0.9 * epoch / warmup
    if recipe.schedule == "step":
        passed = sum(epoch >= share * recipe.epochs for share in recipe.milestones)
        return 0.1**passed
    left = max(0.0, (recipe.epochs - epoch) / (recipe.epochs - warmup))
    return left if recipe.schedule == "one-cycle" else (1 - math.cos(math.pi * left)) / 2


def learning_rates(recipe: Recipe, epoch: float) -> dict[str, float]:
    """What metrics.jsonl says of a moment of training: "lr", and of Muon "muon_lr"."""
    factor = lr_factor(recipe, epoch)
    rates = {"lr": recipe.lr * factor}
    return rates | ({"muon_lr": recipe.muon_lr * factor} if recipe.optimizer == "muon" else {})


def create_schedule(
    optimizer: optim.Optimizer, recipe: Recipe, steps_per_epoch: int
) -> optim.lr_scheduler.LambdaLR:
    """``lr_factor`` as torch's schedule, stepped once a batch."""
    return optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(recipe, step / steps_per_epoch)
    )
