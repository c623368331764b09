"""A training from its start, or from where it was stopped, to its result on the test set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnetlab.compute import distributed
from resnetlab.compute.distributed import World
from resnetlab.console import print_to_stderr
from resnetlab.data.catalogue import has_split
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import Evaluation, evaluate
from resnetlab.plots.curves import plot_curves
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.training.loop import train_to_the_end
from resnetlab.training.plan import Plan, check_plan, load_data, load_pretrained, make_plan
from resnetlab.training.probe import choose_execution
from resnetlab.training.progress import TrainingProgress
from resnetlab.training.state import State
from resnetlab.weights.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Training:
    """What ``train`` returns."""

    run: Path
    history: list[dict[str, Any]]
    """the lines of metrics.jsonl"""
    test: Evaluation | None
    """of best.pt on the test set, if the data has one; on rank 0 alone"""
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
        if weights and recipe.mean is None and "preprocessing" not in weights.guessed:
            trained = weights.preprocessing
            recipe = replace(recipe, mean=trained.mean, std=trained.std)
        plan = make_plan(recipe, *load_data(recipe))
        check_plan(plan, world)
        if weights and world.is_main:
            print_to_stderr(f"starting from {weights.origin}")
            for note in weights.notes:
                print_to_stderr(f"  {note}")
        run = world.from_main(Run.create, recipe.name, out)
        world.hold(run.training())
        execution = world.from_main(
            choose_execution,
            plan,
            processes=world.size,
            local_processes=world.local_size,
            report=print_to_stderr,
        )
        return _train(plan.with_execution(execution), run, world, weights)


def resume(run: str | Path) -> Training:
    """Resume an interrupted run, bit for bit as if it had not been interrupted.

    Raises UserError if ``run`` is no run folder or is finished.
    """
    folder = Run(run)
    recipe = folder.recipe
    if folder.result_file.exists():
        raise UserError(f"{run} is finished; its result is in {folder.result_file}.")
    with distributed.start() as world:
        world.hold(folder.training())
        weights = None if folder.last_file.exists() else load_pretrained(recipe)
        return _train(make_plan(recipe, *load_data(recipe)), folder, world, weights)


def _train(plan: Plan, run: Run, world: World, weights: Checkpoint | None) -> Training:
    plan.execution.set_up()
    state = State.create(plan, weights)
    if run.last_file.exists():
        state.load(run)
        if not world.is_main:  # the file holds the sums of all ranks, which rank 0 goes on with
            state.sums.zero_()
    state.accelerate(plan.execution)
    # Not before: a folder with a recipe is a run that `resume` can go on with.
    world.from_main(run.write_recipe, plan.recipe)
    progress = _progress(plan, world)
    progress.say(
        f"{plan.recipe.model} on {plan.data.name}: {len(plan.data):,} training images, "
        f"{len(plan.val) if plan.val else 0:,} validation images; {plan.execution}"
        + (f"; {world.size} processes" if world.size > 1 else "")
    )
    train_to_the_end(plan, state, run, world, progress)
    test, test_tta = _finish(plan.recipe, run) if world.is_main else (None, None)
    return Training(run=run.path, history=state.history, test=test, test_tta=test_tta)


def _progress(plan: Plan, world: World) -> TrainingProgress:
    size = plan.data.preprocessing.size
    return TrainingProgress(
        plan.total_steps,
        plan.steps_per_epoch,
        enabled=world.is_main,
        early_steps=plan.early_steps,
        early_cost=((plan.recipe.early_size or size) / size) ** 2,
    )


def _finish(recipe: Recipe, run: Run) -> tuple[Evaluation | None, Evaluation | None]:
    """Draw the curves, evaluate the kept network on the test set and write its result."""
    test = test_tta = None
    result: dict[str, Any] = {}
    if has_split(recipe.dataset, "test"):
        test = evaluate(run.path, data_dir=recipe.data_dir)
        result = test.to_dict()
        if recipe.tta != "none":
            test_tta = evaluate(run.path, data_dir=recipe.data_dir, tta=recipe.tta)
            result["with_tta"] = test_tta.to_dict()
    plot_curves(run.path)
    run.write_result(result)  # last: it says that the run is finished
    return test, test_tta
