"""One step of training: the batch, the gradient, the optimizer. The loop and the probe share it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetlab.data.augment import Share
from resnetlab.training.plan import Plan
from resnetlab.training.state import State


def make_batch(
    plan: Plan, indices: Tensor, *, epoch: int, step: int, share: Share = (0, 1)
) -> tuple[Tensor, Tensor]:
    """The images of ``indices`` as the network gets them, and their labels; see ``augment``."""
    batch = plan.augmentation.load(plan.data, indices, epoch)
    return augment(plan, indices, *batch, epoch=epoch, step=step, share=share)


def augment(
    plan: Plan,
    indices: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    epoch: int,
    step: int,
    share: Share = (0, 1),
) -> tuple[Tensor, Tensor]:
    """A batch that is loaded, augmented and normalised, and its labels.

    Float (n, c, h, w); int64 (n,), or float (n, classes) where images are mixed. Random, but fixed
    by (recipe.seed, epoch, step), for all ranks together; ``share`` is this rank and their number.
    """
    early = epoch * plan.steps_per_epoch + step < plan.early_steps
    device = plan.execution.device
    return plan.augmentation(
        images.to(device),  # as bytes, a quarter of what they become
        labels.to(device),
        indices,
        epoch=epoch,
        step=step,
        share=share,
        size=plan.recipe.early_size if early else None,
        memory_format=plan.execution.memory_format,
    )


def train_step(
    plan: Plan, state: State, network: nn.Module, inputs: Tensor, targets: Tensor
) -> Tensor:
    """One step of the optimizer; the batch's summed loss, right answers and size, float64 (3,).

    ``inputs`` and ``targets`` lie on the execution's device, as ``augment`` gives them.
    """
    recipe, execution, weights = plan.recipe, plan.execution, plan.class_weights
    sums = torch.zeros_like(state.sums)
    n = len(inputs)
    parts = list(
        zip(inputs.chunk(recipe.accumulate), targets.chunk(recipe.accumulate), strict=True)
    )
    for number, (part, part_targets) in enumerate(parts, 1):
        last = number == len(parts)
        no_sync = getattr(network, "no_sync", nullcontext)  # DDP averages gradients once a step
        with nullcontext() if last else no_sync():
            with execution.autocast():
                logits = network(part).float()
                loss = F.cross_entropy(
                    logits,
                    part_targets,
                    weight=None if weights is None else weights.to(execution.device),
                    label_smoothing=recipe.label_smoothing,
                )
            state.scaler.scale(loss * (len(part) / n)).backward()
        labels = part_targets if part_targets.dim() == 1 else part_targets.argmax(1)
        with torch.no_grad():
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack(
                [loss.double() * len(part), right.double(), sums.new_tensor(len(part))]
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
