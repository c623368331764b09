"""The training loop: one visible function, the same on one process or many."""

from __future__ import annotations

import json
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from resnetlab import runs
from resnetlab.compute import distributed
from resnetlab.compute.distributed import World
from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import peak_memory_mb
from resnetlab.console import print_to_stderr
from resnetlab.data.dataset import Dataset
from resnetlab.data.images import normalize
from resnetlab.data.sampling import epoch_batches, steps_per_epoch
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import Evaluation, evaluate, logit_batches
from resnetlab.files import write_json, write_text
from resnetlab.plots.curves import plot_curves
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import get_recipe
from resnetlab.training.interrupt import stop_signal
from resnetlab.training.preparation import (
    check_fit,
    fitting_architecture,
    load_data,
    load_pretrained,
)
from resnetlab.training.probe import choose_execution
from resnetlab.training.progress import TrainingProgress
from resnetlab.training.state import State
from resnetlab.training.step import early_steps, make_batch, train_step
from resnetlab.weights.checkpoint import Weights


@dataclass(frozen=True, kw_only=True)
class Training:
    """What ``train`` returns."""

    run: Path
    history: list[dict[str, Any]]
    """the lines of metrics.jsonl"""
    test: Evaluation | None
    """of best.pt on the test set; on rank 0 alone"""
    test_tta: Evaluation | None = None
    """the same with the recipe's test-time augmentation, if it has one"""


def train(
    recipe: str | Recipe = "cifar10-quick", *, out: str | Path | None = None, **changes: Any
) -> Training:
    """Train a network: ``train("cifar10-quick", epochs=5, out="runs/short")``.

    ``changes`` are fields of ``Recipe``; ``out`` is the run folder (default: runs/NAME). The
    test set is evaluated once, at the end. Raises UserError, one sentence, for input that cannot
    work; KeyboardInterrupt after Ctrl-C, when the state has been saved for ``resume``.
    """
    recipe = get_recipe(recipe, **changes)
    if recipe.data_dir is not None:  # the run folder may be read from anywhere
        recipe = replace(recipe, data_dir=str(Path(recipe.data_dir).absolute()))
    with distributed.start() as world:
        weights = load_pretrained(recipe)
        if weights is not None and recipe.mean is None:
            recipe = replace(recipe, mean=weights.mean, std=weights.std)
        data, val = load_data(recipe)
        check_fit(recipe, data, world)
        run = world.from_main(runs.new_run, recipe.name, out)
        world.hold(runs.to_train(run))
        execution = world.from_main(
            choose_execution,
            recipe,
            fitting_architecture(recipe, data),
            data,
            processes=world.size,
            local_processes=world.local_size,
            report=print_to_stderr,
        )
        recipe = replace(recipe, execution=str(execution))
        return _train(recipe, data, val, run, world, weights)


def resume(run: str | Path) -> Training:
    """Go on with a run that was interrupted, to the bit as if it had not been.

    Raises UserError if ``run`` is no run folder or is finished.
    """
    run = Path(run)
    recipe = runs.read_recipe(run)
    if (run / "test.json").exists():
        raise UserError(f"{run} is finished; its result is in {run / 'test.json'}.")
    with distributed.start() as world:
        world.hold(runs.to_train(run))
        weights = None if (run / "last.pt").exists() else load_pretrained(recipe)
        return _train(recipe, *load_data(recipe), run, world, weights)


def _train(
    recipe: Recipe,
    data: Dataset,
    val: Dataset | None,
    run: Path,
    world: World,
    weights: Weights | None,
) -> Training:
    execution = Execution.parse(recipe.execution)
    architecture = fitting_architecture(recipe, data)
    steps = steps_per_epoch(len(data), recipe.batch_size)
    total_steps = max(1, round(recipe.epochs * steps))
    sample = None
    if architecture.stem == "whitening":
        sample = normalize(data.images[:5000], data.mean, data.std)
    state = State.create(recipe, architecture, execution, steps, weights, sample)
    if (run / "last.pt").exists():
        state.load(run / "last.pt")
        if not world.is_main:  # the file holds the sums of all ranks, which rank 0 goes on with
            state.sums.zero_()
    state.accelerate(execution)
    # Not before: a folder with a recipe is a run that `resume` can go on with.
    world.from_main(write_json, run / "recipe.json", recipe.to_dict())
    network = DistributedDataParallel(state.model) if world.size > 1 else state.model
    full_size = recipe.image_size or data.image_size
    progress = TrainingProgress(
        total_steps,
        steps,
        enabled=world.is_main,
        early_steps=early_steps(recipe, steps),
        early_cost=((recipe.early_size or full_size) / full_size) ** 2,
    )
    progress.say(
        f"{recipe.model} on {data.name}: {len(data):,} images to train on, "
        f"{len(val) if val else 0:,} to choose by; {execution}"
        + (f"; {world.size} processes" if world.size > 1 else "")
    )

    # From its next step on, this start replaces what a killed one has told TensorBoard.
    folder, purge = str(run / "tensorboard"), state.step + 1
    events = SummaryWriter(folder, purge_step=purge) if world.is_main else None
    with progress, stop_signal() as stop, events or nullcontext():

        def stop_if_asked() -> None:
            if not world.any(stop.is_set()):
                return
            world.sum(state.sums)
            world.from_main(state.save, run / "last.pt")
            raise KeyboardInterrupt(
                f"stopped after step {state.step:,} of {total_steps:,}; nothing is lost. "
                f"Go on with: resnetlab resume {run}"
            )

        while state.step < total_steps:
            epoch, first_step = divmod(state.step, steps)
            state.model.train()
            for step, indices in enumerate(
                epoch_batches(
                    len(data),
                    recipe.batch_size,
                    seed=recipe.seed,
                    epoch=epoch,
                    rank=world.rank,
                    world_size=world.size,
                    start_step=first_step,
                ),
                first_step,
            ):
                began = time.perf_counter()
                inputs, targets = make_batch(
                    data, indices, recipe, execution, epoch=epoch, step=step, rank=world.rank
                )
                state.sums += train_step(state, network, inputs, targets, recipe, execution)
                state.step += 1
                seconds = time.perf_counter() - began
                state.seconds += seconds
                progress.count_step(state.step, seconds)
                if progress.due():
                    loss, _, n = state.sums.tolist()
                    progress.show_step(loss / n, n * world.size / state.seconds)
                if state.step == total_steps:
                    break
                if step + 1 < steps:
                    stop_if_asked()

            began = time.perf_counter()
            line = _train_metrics(state, epoch, execution, world)
            if val is not None:
                line |= _validate(state, val, recipe, execution, world)
            _check_finite(line, run)
            state.history.append(line)
            state.sums.zero_()
            state.seconds = 0.0
            world.from_main(_keep, state, run, data, recipe, events)
            progress.count_validation(time.perf_counter() - began)
            progress.show_epoch(line)
            stop_if_asked()

    test = test_tta = None
    if world.is_main:
        test = evaluate(run, data_dir=recipe.data_dir)
        result = test.to_dict()
        if recipe.tta != "none":
            test_tta = evaluate(run, data_dir=recipe.data_dir, tta=recipe.tta)
            result["with_tta"] = test_tta.to_dict()
        plot_curves(run)
        write_json(run / "test.json", result)  # last: it says that the run is finished
    return Training(run=run, history=state.history, test=test, test_tta=test_tta)


def _train_metrics(state: State, epoch: int, execution: Execution, world: World) -> dict[str, Any]:
    """The line of metrics.jsonl, still without validation."""
    loss, right, n = world.sum(state.sums.clone()).tolist()
    return {
        "epoch": epoch + 1,
        "step": state.step,
        "lr": state.optimizer.param_groups[0]["lr"],
        "train_loss": loss / n,
        "train_top1": 100 * right / n,
        "val_loss": None,
        "val_top1": None,
        "images_per_second": n / state.seconds,
        "seconds": state.seconds,
        "peak_memory_mb": world.sum(torch.tensor(peak_memory_mb(execution.device))).item(),
    }


def _check_finite(line: dict[str, Any], run: Path) -> None:
    if not all(math.isfinite(line[key] or 0.0) for key in ("train_loss", "val_loss")):
        raise UserError(
            f"the loss is not finite in epoch {line['epoch']} (train {line['train_loss']}, "
            f"validation {line['val_loss']}); train again with a lower `lr` (of muon also "
            f"`muon_lr`), a longer `warmup_epochs` or `clip_norm` 1. {run} keeps the epochs before."
        )


def _validate(
    state: State, val: Dataset, recipe: Recipe, execution: Execution, world: World
) -> dict[str, float]:
    model = state.evaluated.eval()
    # Each rank's batch norm has seen its own images last; what is kept is rank 0's.
    world.copy_from_main(model.buffers())
    sums = torch.zeros_like(state.sums)
    # Compiling the network a second time, for inference, would cost more than it saves.
    with torch.compiler.set_stance("force_eager"):
        for logits, labels in logit_batches(
            model,
            val,
            image_size=recipe.image_size,
            execution=execution,
            rank=world.rank,
            world_size=world.size,
        ):
            loss = F.cross_entropy(logits.double(), labels, reduction="sum")
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack([loss, right.double(), right * 0.0 + len(labels)])
    loss, right, n = world.sum(sums).tolist()
    return {"val_loss": loss / n, "val_top1": 100 * right / n}


def _keep(
    state: State, run: Path, data: Dataset, recipe: Recipe, events: SummaryWriter | None
) -> None:
    """Write the epoch to the run folder: best.pt if it is the best so far, metrics, last.pt."""
    line = state.history[-1]
    if runs.best_epoch(state.history) == len(state.history) - 1:
        runs.Checkpoint(
            model=state.evaluated,
            classes=data.classes,
            mean=data.mean,
            std=data.std,
            image_size=recipe.image_size or data.image_size,
            dataset=data.name,
            metrics=line,
            recipe=recipe.to_dict(),
        ).save(run / "best.pt")
    lines = "".join(json.dumps(other) + "\n" for other in state.history)
    write_text(run / "metrics.jsonl", lines)
    assert events
    for name, value in line.items():
        if value is not None and name not in ("epoch", "step"):
            events.add_scalar(name, value, line["step"])
    events.flush()
    # Last, so that a run killed between two of these files does the epoch again.
    state.save(run / "last.pt")
