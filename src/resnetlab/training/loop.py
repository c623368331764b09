"""The training loop: one visible function, the same on one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from resnetlab.compute.cores import Cores
from resnetlab.compute.distributed import World
from resnetlab.compute.machine import peak_memory_mb, processor
from resnetlab.data.prefetch import load_batches
from resnetlab.evaluation.evaluate import logit_batches
from resnetlab.evaluation.metrics import tally
from resnetlab.files import WriteError
from resnetlab.inference.backends import TorchBackend
from resnetlab.runs import Run, best_epoch
from resnetlab.training.events import Events
from resnetlab.training.faults import not_finite
from resnetlab.training.head import fit_head
from resnetlab.training.interrupt import stop_signal
from resnetlab.training.optimizer import learning_rates
from resnetlab.training.plan import Plan
from resnetlab.training.progress import TrainingProgress
from resnetlab.training.state import State
from resnetlab.training.step import augment, train_step
from resnetlab.training.tuning import begin_epoch, is_out_of_patience
from resnetlab.weights.checkpoint import Checkpoint


def train_to_the_end(
    plan: Plan, state: State, run: Run, world: World, progress: TrainingProgress
) -> None:
    """Train from where the state is to the plan's last step; each epoch is kept in ``run``.

    Raises UserError where the loss is no longer finite, and KeyboardInterrupt after Ctrl-C, when
    the state has been saved.
    """
    recipe, network = plan.recipe, state.model
    if world.size > 1:
        network = DistributedDataParallel(network, find_unused_parameters=recipe.freezes_layers)
    events = Events(run.tensorboard, state.step + 1, progress.say)
    if recipe.fits_head and not (state.step or state.history):
        state.history.append(fit_head(plan, state, world))
        world.from_main(_keep, plan, state, run, world, progress, events)
        progress.show_head(state.history[-1])
    # Ranks wait for each other, so that none can tell alone what is faster.
    threads = (plan.execution.threads or 1) if world.size == 1 else 1
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
                seconds = time.perf_counter() - began
                state.seconds += seconds
                progress.count_step(state.step, seconds)
                cores.count(seconds, kind=inputs.shape)
                # On a GPU, to look at the loss is to wait for it.
                finite = True
                if (due := progress.due()) or plan.execution.device == "cpu":
                    loss, _, n = state.sums.tolist()
                    finite = math.isfinite(loss)
                    if due:
                        progress.show_step(loss / n, n * world.size / state.seconds)
                if state.step == plan.total_steps:
                    break
                if step + 1 < plan.steps_per_epoch:
                    _stop_if_needed(stop.is_set(), finite, plan, state, run, world)

            began = time.perf_counter()
            line = _train_metrics(plan, state, epoch, world) | _validate(plan, state, world)
            _check_finite(plan, state, line, run)
            state.history.append(line)
            state.sums.zero_()
            state.seconds = 0.0
            world.from_main(_keep, plan, state, run, world, progress, events)
            progress.count_validation(time.perf_counter() - began)
            progress.show_epoch(line)
            _stop_if_needed(stop.is_set(), True, plan, state, run, world)


def _batches(
    plan: Plan, world: World, epoch: int, first_step: int
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """This rank's batches of an epoch: indices, and their images and labels."""
    indices = plan.batches(epoch, rank=world.rank, world_size=world.size, start_step=first_step)
    augmentation = plan.augmentation
    views = partial(augmentation.load, plan.data, epoch=epoch) if augmentation.by_sample else None
    return load_batches(plan.data, indices, views)


def _stop_if_needed(
    asked: bool, finite: bool, plan: Plan, state: State, run: Run, world: World
) -> None:
    """Raise on every rank where the loss of one is not finite, or save and raise if asked to."""
    if not world.any(asked or not finite):
        return
    loss = world.sum(state.sums)[0].item()
    if not math.isfinite(loss):
        raise not_finite(plan, state.step, "the loss is", run)
    world.from_main(_save, plan, state, run, world)
    raise KeyboardInterrupt(
        f"stopped after step {state.step:,} of {plan.total_steps:,}; nothing is lost. "
        f"Go on with: {run.resume_command()}"
    )


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


def _check_finite(plan: Plan, state: State, line: dict[str, Any], run: Run) -> None:
    """Raise UserError at the end of an epoch that must not be kept."""
    for name, what in (("train_loss", "the loss"), ("val_loss", "the validation loss")):
        if not math.isfinite(line[name] or 0.0):
            raise not_finite(plan, state.step, f"{what} is", run)
    if not all(bool(weights.isfinite().all()) for weights in state.model.parameters()):
        raise not_finite(plan, state.step, "the weights are", run)


def _keep(
    plan: Plan, state: State, run: Run, world: World, progress: TrainingProgress, events: Events
) -> None:
    """Write the epoch to the run folder: best.pt if it is the best so far, metrics, last.pt."""
    line = state.history[-1]
    if best_epoch(state.history) == len(state.history) - 1:
        model = state.evaluated
        Checkpoint(
            architecture=model.architecture,
            weights=model.state_dict(),
            classes=plan.data.classes,
            preprocessing=plan.data.preprocessing,
            dataset=plan.recipe.dataset,
            metrics=line,
            recipe=plan.recipe.to_dict(),
        ).save(run.best_file)
    try:
        run.write_metrics(state.history)
    except WriteError as error:  # the state has the same lines
        progress.say(f"{error.fault}; the training goes on without it")
    events.add(line)
    # Last, so that a run killed between two of these files does the epoch again.
    _save(plan, state, run, world)


def _save(plan: Plan, state: State, run: Run, world: World) -> None:
    """Write last.pt: the state, and what its continuation must not change unawares."""
    about = {"recipe": plan.recipe.to_dict(), "processes": world.size, "processor": processor()}
    run.write_last(state.to_dict() | about)
