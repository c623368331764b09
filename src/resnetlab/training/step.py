"""One step of training: the batch, the gradient, the optimizer. The loop and the probe share it."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetlab.compute.execution import Execution
from resnetlab.data.augment import Augmentation
from resnetlab.data.dataset import Dataset
from resnetlab.data.images import resize
from resnetlab.data.sampling import steps_per_epoch
from resnetlab.recipes.record import Recipe
from resnetlab.training.state import State


def make_batch(
    data: Dataset,
    indices: Tensor,
    recipe: Recipe,
    execution: Execution,
    *,
    epoch: int,
    step: int,
    rank: int = 0,
) -> tuple[Tensor, Tensor]:
    """The images of ``indices`` as the network gets them, and their labels.

    Float (n, c, h, w), augmented and normalised; int64 (n,), or float (n, classes) where they are
    mixed. Random, but fixed by (recipe.seed, epoch, step, rank).
    """
    images, labels = data.batch(indices)
    if recipe.image_size is not None:
        images = resize(images, recipe.image_size)
    augmentation = Augmentation(
        **{name: getattr(recipe, name) for name in Augmentation.__dataclass_fields__}
    )
    steps = steps_per_epoch(len(data), recipe.batch_size)
    early = epoch * steps + step < early_steps(recipe, steps)
    return augmentation(
        images,
        labels,
        indices,
        epoch=epoch,
        step=step,
        rank=rank,
        seed=recipe.seed,
        mean=data.mean,
        std=data.std,
        num_classes=len(data.classes),
        size=recipe.early_size if early else None,
        memory_format=execution.memory_format,
    )


def early_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """The number of steps, from the first, whose images are of ``recipe.early_size``."""
    if not recipe.early_size:
        return 0
    return math.ceil(recipe.early_share * recipe.epochs * steps_per_epoch)


def train_step(
    state: State,
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    recipe: Recipe,
    execution: Execution,
) -> Tensor:
    """One step of the optimizer; the batch's summed loss, right answers and size, float64 (3,)."""
    inputs, targets = inputs.to(execution.device), targets.to(execution.device)
    sums = torch.zeros_like(state.sums)
    n = len(inputs)
    parts = list(
        zip(inputs.chunk(recipe.accumulate), targets.chunk(recipe.accumulate), strict=True)
    )
    for number, (part, wanted) in enumerate(parts, 1):
        last = number == len(parts)
        no_sync = getattr(network, "no_sync", nullcontext)  # DDP averages gradients once a step
        with nullcontext() if last else no_sync():
            with execution.autocast():
                logits = network(part).float()
                loss = F.cross_entropy(logits, wanted, label_smoothing=recipe.label_smoothing)
            state.scaler.scale(loss * (len(part) / n)).backward()
        answers = wanted if wanted.dim() == 1 else wanted.argmax(1)
        with torch.no_grad():
            right = (logits.argmax(1) == answers).sum()
            sums += torch.stack(
                [loss.double() * len(part), right.double(), right * 0.0 + len(part)]
            )
    if recipe.clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    state.schedule.step()
    if state.ema is not None:
        state.ema.update_parameters(state.model)
    return sums
