"""A training from its start, or from where it was stopped, to its result on the test set."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnetlab.arguments import check_types
from resnetlab.compute import distributed
from resnetlab.compute.distributed import World
from resnetlab.console import Report, print_to_stderr, with_flags
from resnetlab.data.catalogue import is_path
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.evaluation.calibration import calibrated
from resnetlab.evaluation.evaluate import Evaluation, evaluate
from resnetlab.files import user_path
from resnetlab.plots.curves import plot_curves
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import get_recipe
from resnetlab.records import check_fields
from resnetlab.runs import Run
from resnetlab.training.faults import DivergedError, remedies, remedies_of_the_test
from resnetlab.training.loop import train_to_the_end
from resnetlab.training.plan import (
    Plan,
    check_plan,
    describe_plan,
    early_cost,
    load_data,
    load_pretrained,
    make_plan,
)
from resnetlab.training.probe import choose_execution
from resnetlab.training.progress import TrainingProgress
from resnetlab.training.restoring import roll_back, state_of
from resnetlab.training.resuming import (
    check_data,
    check_epochs,
    describe_changes,
    execution_here,
    recipe_to_resume,
    say_what_differs,
)
from resnetlab.training.split import check_images, keep_split, open_data, with_kept_split
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


@check_types
def train(
    recipe: str | Recipe = "cifar10-quick",
    *,
    out: str | Path | None = None,
    resume_if_exists: bool = False,
    **changes: Any,
) -> Training:
    """Train a network: ``train("cifar10-quick", epochs=5, out="runs/short")``.

    ``changes`` are fields of ``Recipe``; ``out`` is the run folder (default: runs/NAME). The
    test set is evaluated once, at the end. With ``resume_if_exists`` the same call goes on with the
    run that it has begun before, if there is one. Raises UserError, one sentence, for input that
    cannot work; KeyboardInterrupt after Ctrl-C, when the state has been saved for ``resume``.
    """
    if not isinstance(recipe, str | Recipe):
        raise UserError(f"`recipe` must be a recipe or the name of one, not {recipe!r}.")
    recipe = _with_absolute_paths(get_recipe(recipe, **changes))
    if resume_if_exists and out is None:
        out = Path("runs") / recipe.name
    with torch_defaults(), distributed.start() as world:
        if resume_if_exists and world.from_main(lambda: Run(out or "").exists):
            run = Run(out or "")
            if world.from_main(say_what_differs, run, recipe, print_to_stderr) == "finished":
                history = world.from_main(lambda: run.metrics)
                return Training(run=run.path, history=history, test=None)
            return _resume(run, world)
        world.from_main(Run.check_new, out)
        weights = load_pretrained(recipe)
        if weights and recipe.mean is None and "preprocessing" not in weights.guessed:
            trained = weights.preprocessing
            recipe = replace(recipe, mean=trained.mean, std=trained.std)
        plan = make_plan(recipe, *load_data(recipe, _report(world)))
        check_plan(plan, world)
        if world.is_main:
            for line in describe_plan(plan, weights, world.size):
                print_to_stderr(with_flags(line))
        with remedies(plan):
            execution = world.from_main(
                choose_execution,
                plan,
                processes=world.size,
                local_processes=world.local_size,
                report=print_to_stderr,
            )
            plan = plan.set_up(execution)
            state = state_of(plan, world, weights, None)
        # Not before: a training that cannot begin, or is killed while it measures, leaves nothing.
        run = world.from_main(Run.create, recipe.name, out)
        world.hold(run.training())
        return _train(plan, state, run, world, weights)


@check_types
def resume(run: str | Path, *, accept_changes: bool = False, **changes: Any) -> Training:
    """Resume a run: an interrupted one bit for bit as if it had not been interrupted.

    Args:
        run: The run folder.
        accept_changes: Go on although recipe.json was changed by hand, or the run was trained by
            another number of processes.
        changes: Fields of ``Recipe`` to change from here on, such as ``lr``; with more ``epochs``
            a finished run goes on, too. They are recorded in the run.

    Raises:
        UserError: ``run`` is no run folder, or is finished; recipe.json was changed; a change is
            not possible any more.
    """
    folder = Run(run)
    check_fields(Recipe, changes)
    with torch_defaults(), distributed.start() as world:
        return _resume(folder, world, accept_changes, **changes)


def _resume(run: Run, world: World, accept_changes: bool = False, **changes: Any) -> Training:
    """Of several processes, rank 0 reads the folder: a copy on another machine may be old."""
    world.from_main(run.check_begun)
    world.hold(run.training())
    if world.from_main(lambda: run.result) is not None and "epochs" not in changes:
        raise UserError(
            f"{run.path} is finished; its result is in {run.result_file}. To train it further, "
            "give more `epochs`."
        )
    saved = world.from_main(run.states.latest, print_to_stderr)
    before, recipe = world.from_main(
        recipe_to_resume,
        run,
        saved,
        changes,
        accept_changes=accept_changes,
        processes=world.size,
        report=print_to_stderr,
    )
    recipe = _with_absolute_paths(recipe)
    if not accept_changes:
        world.from_main(check_images, recipe, run)
    plan = make_plan(recipe, *load_data(with_kept_split(recipe, run), _report(world)))
    check_plan(plan, world)
    if saved is not None:
        world.from_main(check_epochs, plan, saved, run)
        if not accept_changes:
            world.from_main(check_data, plan, saved, run)
    with remedies(plan, run):
        execution = world.from_main(
            execution_here,
            plan,
            saved,
            world,
            asked="execution" in changes,
            report=print_to_stderr,
        )
        plan = plan.set_up(execution)
        weights = load_pretrained(recipe) if saved is None or recipe.on_nan != "stop" else None
        if world.is_main:
            for line in describe_changes(before, plan, saved, world.size):
                print_to_stderr(line)
        state = state_of(plan, world, weights, saved)
    return _train(plan, state, run, world, weights, resumes=saved is not None)


def _report(world: World) -> Report:
    """What one of several processes is told, each other leaves unsaid."""
    return print_to_stderr if world.is_main else lambda line: None


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """The run folder may be read, and the run resumed, from anywhere."""
    paths = {"data_dir": recipe.data_dir, "split_file": recipe.split_file}
    if recipe.cache not in ("memory", "none"):
        paths["cache"] = recipe.cache
    if is_path(recipe.dataset):
        paths["dataset"] = recipe.dataset
    with contextlib.suppress(OSError):  # of a name that no file can have
        if recipe.pretrained and user_path(recipe.pretrained).exists():
            paths["pretrained"] = recipe.pretrained
    absolute = {n: str(user_path(path).absolute()) for n, path in paths.items() if path}
    return replace(recipe, **absolute)


def _train(
    plan: Plan,
    state: State,
    run: Run,
    world: World,
    weights: Checkpoint | None,
    *,
    resumes: bool = False,
) -> Training:
    with remedies(plan, run):
        if world.liveness:
            world.liveness.advice = f"Go on with: {run.resume_command()}"
        if state.step < plan.total_steps:
            world.from_main(run.reopen)
        world.from_main(keep_split, plan.recipe, run)
        # From here on `resume` can go on with it.
        world.from_main(run.write_recipe, plan.recipe)
        progress = _progress(plan, world)
        progress.say(
            f"{plan.recipe.model} on {plan.data.name}: {len(plan.data):,} training images, "
            f"{len(plan.val) if plan.val else 0:,} validation images; {plan.execution}"
            + (f"; {world.size} processes" if world.size > 1 else "")
        )
        if resumes:
            progress.say_where(state.step)
        if plan.execution.mode == "compile":
            progress.say("the first step compiles the network, which takes half a minute or more")
        while True:
            try:
                train_to_the_end(plan, state, run, world, progress)
                break
            except DivergedError as error:
                plan, state = roll_back(error, plan, state, run, world, weights, progress)
        test = test_tta = None
        if world.is_main:
            test, test_tta = _finish(plan, run, state, progress)
        return Training(run=run.path, history=state.history, test=test, test_tta=test_tta)


def _progress(plan: Plan, world: World) -> TrainingProgress:
    return TrainingProgress(
        plan.total_steps,
        plan.steps_per_epoch,
        enabled=world.is_main,
        early_steps=plan.early_steps,
        early_cost=early_cost(plan.recipe, plan.data.preprocessing.size),
    )


def _finish(
    plan: Plan, run: Run, state: State, progress: TrainingProgress
) -> tuple[Evaluation | None, Evaluation | None]:
    """Calibrate the kept network, evaluate it on the test set, draw the curves, write the result.

    Temperature and threshold come from the validation split; without one they stay as they are.
    """
    recipe = plan.recipe
    test = test_tta = None
    result: dict[str, Any] = {}
    with remedies_of_the_test(run):
        run.write_metrics(state.history)  # which a full disk may have prevented
        # Of the classifier alone that is done: another pass over the images would be as long again.
        if plan.val is not None and not (plan.total_steps == 0 and state.val_logits):
            calibrated(run.best, plan.val).save(run.best_file)
        if open_data(with_kept_split(recipe, run)).has("test"):
            progress.say(f"testing {run.best_file} on the test set of {recipe.dataset} ...")
            test = evaluate(run.path, data_dir=recipe.data_dir)
            result = test.to_dict()
            if recipe.tta != "none":
                progress.say(f"testing with test-time augmentation ({recipe.tta}) ...")
                test_tta = evaluate(run.path, data_dir=recipe.data_dir, tta=recipe.tta)
                result["with_tta"] = test_tta.to_dict()
        plot_curves(run.path)
        run.write_result(result)  # last: it says that the run is finished
    return test, test_tta
