"""The training loop: one visible function, the same on one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from resnetlab.compute.cores import Cores, movable_threads
from resnetlab.compute.distributed import World
from resnetlab.compute.machine import peak_memory_mb
from resnetlab.data.prefetch import load_batches
from resnetlab.evaluation.evaluate import logit_batches
from resnetlab.evaluation.metrics import tally
from resnetlab.inference.backends import TorchBackend
from resnetlab.runs import Run
from resnetlab.training.head import fit_head
from resnetlab.training.interrupt import stop_signal
from resnetlab.training.keeping import Keeper
from resnetlab.training.optimizer import learning_rates
from resnetlab.training.parallel import shared
from resnetlab.training.plan import Plan
from resnetlab.training.progress import TrainingProgress
from resnetlab.training.state import State
from resnetlab.training.step import augment, train_step
from resnetlab.training.tuning import begin_epoch, is_out_of_patience


def train_to_the_end(
    plan: Plan, state: State, run: Run, world: World, progress: TrainingProgress
) -> None:
    """Train from where the state is to the plan's last step; each epoch is kept in ``run``.

    Raises UserError where the loss is no longer finite, and KeyboardInterrupt after Ctrl-C, when
    the state has been saved.
    """
    recipe = plan.recipe
    network = shared(plan, state.model, world)
    keeper = Keeper(plan, state, run, world, progress)
    if recipe.fits_head and not (state.step or state.history):
        keeper.keep_epoch(fit_head(plan, state, world))
        progress.show_head(state.history[-1])
    on_cpu = plan.execution.device == "cpu"
    threads = movable_threads(plan.execution, world.size)
    with progress, Cores(threads, progress.say) as cores, stop_signal(progress.say) as stop:
        while state.step < plan.total_steps and not is_out_of_patience(recipe, state.history):
            epoch, first_step = divmod(state.step, plan.steps_per_epoch)
            begin_epoch(recipe, state.model, epoch)
            for step, (indices, batch) in enumerate(
                _batches(plan, world, epoch, first_step), first_step
            ):
                began = time.perf_counter()
                inputs, targets = augment(
                    plan, indices, *batch, epoch=epoch, step=step, share=world.share
                )
                state.sums += train_step(plan, state, network, inputs, targets)
                state.step += 1
                finite, loss, n, due = True, 0.0, 0.0, progress.due()
                # On a GPU, to look at the loss is to wait for all steps until here.
                if due or on_cpu or step + 1 == plan.steps_per_epoch:
                    loss, _, n = state.sums.tolist()
                    finite = math.isfinite(loss)
                seconds = time.perf_counter() - began
                state.seconds += seconds
                progress.count_step(state.step, seconds)
                cores.count(seconds, kind=inputs.shape)
                if due:
                    progress.show_step(loss / n, n * world.size / state.seconds)
                if state.step == plan.total_steps:
                    break
                if step + 1 < plan.steps_per_epoch:
                    keeper.between_steps(asked=stop.is_set(), finite=finite)

            began = time.perf_counter()
            line = _train_metrics(plan, state, epoch, world) | _validate(plan, state, world)
            keeper.keep_epoch(line)
            progress.count_validation(time.perf_counter() - began)
            progress.show_epoch(line)
            keeper.between_steps(asked=stop.is_set(), finite=True)


def _batches(
    plan: Plan, world: World, epoch: int, first_step: int
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """This rank's batches of an epoch: indices, and their images and labels."""
    indices = plan.batches(epoch, rank=world.rank, world_size=world.size, start_step=first_step)
    augmentation = plan.augmentation
    views = partial(augmentation.load, plan.data, epoch=epoch) if augmentation.by_sample else None
    return load_batches(plan.data, indices, views)


def _train_metrics(plan: Plan, state: State, epoch: int, world: World) -> dict[str, Any]:
    """The line of metrics.jsonl, still without validation."""
    loss, right, n = world.sum(state.sums.clone()).tolist()
    memory = torch.tensor(peak_memory_mb(plan.execution.device))
    return {
        "epoch": epoch + 1,
        "step": state.step,
        **learning_rates(plan.recipe, (state.step - 1) / plan.steps_per_epoch),
        "train_loss": loss / n,
        "train_top1": 100 * right / n,
        "val_loss": None,
        "val_top1": None,
        "images_per_second": n / state.seconds,
        "seconds": state.seconds,
        "peak_memory_mb": world.sum(memory).item(),
    }


def _validate(plan: Plan, state: State, world: World) -> dict[str, float]:
    """Loss and accuracy on the validation split; nothing where there is none."""
    if plan.val is None:
        return {}
    model = state.evaluated.eval()
    # Each rank's batch norm has seen its own images last; what is kept is rank 0's.
    world.copy_from_main(model.buffers())
    backend = TorchBackend(
        model=model,
        classes=plan.val.classes,
        preprocessing=plan.val.preprocessing,
        execution=plan.execution,
    )
    sums = torch.zeros(3, dtype=torch.float64)
    # Compiling the network a second time, for inference, would cost more than it saves.
    with torch.compiler.set_stance("force_eager"):
        for logits, labels in logit_batches(
            backend, plan.val, rank=world.rank, world_size=world.size
        ):
            sums += tally(logits, labels)
    loss, right, n = world.sum(sums).tolist()
    return {"val_loss": loss / n, "val_top1": 100 * right / n}
