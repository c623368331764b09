"""Which parameters are trained how, and how the learning rate moves."""

from __future__ import annotations

import math

import torch
from torch import nn, optim

from resnetlab.recipes.record import Recipe
from resnetlab.training.muon import step_by_muon


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """Weights decay; norms and biases (one-dimensional) do not, unless the recipe says "all"."""
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in trained if p.dim() > 1]
    norms = [p for p in trained if p.dim() <= 1]
    decay = recipe.weight_decay if recipe.weight_decay_on == "all" else 0.0
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": norms, "weight_decay": decay, "lr": recipe.norm_lr or recipe.lr},
    ]
    return [group for group in groups if group["params"]]


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
    convolutions = [p for p in groups[0]["params"] if p.dim() == 4]
    for group in groups:
        group["params"] = [p for p in group["params"] if p.dim() != 4]
    muon = {"params": convolutions, "muon": True, "muon_momentum": recipe.muon_momentum}
    muon |= {"lr": recipe.muon_lr, "momentum": 0.0, "nesterov": False}
    optimizer = optim.SGD([*groups, muon], **options)
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
