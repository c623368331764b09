"""What a resumed run changes: said, recorded, and refused where nobody has asked for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch

from resnetlab.compute.compiled import compiled
from resnetlab.compute.distributed import World
from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import available_cores, compiler, has_fast_bf16, processor
from resnetlab.console import Report
from resnetlab.errors import UserError
from resnetlab.recipes.record import Recipe
from resnetlab.runs import Run
from resnetlab.training.keeping import data_digest
from resnetlab.training.optimizer import learning_rates
from resnetlab.training.plan import Plan
from resnetlab.training.probe import choose_execution

FIXED = (
    *("model", "model_overrides", "pretrained", "load", "zero_init", "optimizer"),
    *("dataset", "val_size", "test_size", "split_seed", "split_file", "train_size", "batch_size"),
    *("freeze", "head", "head_views", "head_lr", "layer_decay", "balanced"),
)
"""Fields of a recipe that a run which has begun cannot change."""

NEUTRAL = ("name", "data_dir", "cache", "tta", "checkpoint_minutes", "on_nan")
"""Fields on which no bit of the training depends."""

Saved = Mapping[str, Any]
"""The content of last.pt."""


def recipe_to_resume(
    run: Run,
    saved: Saved | None,
    changes: Mapping[str, Any],
    *,
    accept_changes: bool,
    processes: int,
    report: Report,
) -> tuple[Recipe, Recipe]:
    """The recipe by which a run was trained, and the one that it goes on with.

    That is its own with ``changes``. Where recipe.json is damaged, last.pt knows it. Raises
    UserError where it was changed by hand, or the number of processes is another, unless
    ``accept_changes``; and for a change that is not possible any more.
    """
    if saved is None:
        recipe = run.read_recipe()[0] if accept_changes else run.recipe
        return recipe, replace(recipe, **changes)
    known = Recipe.from_dict(saved["recipe"]) if "recipe" in saved else None  # version 0.1.0: not
    try:
        recipe, whose = run.read_recipe()
    except UserError as error:
        if known is None:
            raise
        report(f"{str(error).rstrip('.')}; going on with the recipe that the state itself has")
        recipe, whose = known, "ours"
    if known is not None:
        _check_edits(run, known, recipe, accept_changes or whose == "ours")
        was = saved["processes"]
        if was != processes and not accept_changes:
            command = shlex.join(["resume", str(run.path)])
            raise UserError(
                f"{run.path} was trained by {was} and is resumed by {processes} process(es), so "
                "batch norm would see other images; start as many (torchrun "
                f"--nproc-per-node {was} -m resnetlab {command}), or give `accept_changes`."
            )
    if fixed := [name for name in changes if name in FIXED]:
        raise UserError(
            f"`{fixed[0]}` cannot be changed in a run that has begun; train anew, if you like from "
            f"its network: resnetlab train {recipe.name} --pretrained {shlex.quote(str(run.path))}"
        )
    return known or recipe, _changed(recipe, changes)


def say_what_differs(
    run: Run, asked: Recipe, report: Report
) -> Literal["finished", "not finished"]:
    """Of a run that ``asked`` may have begun before: how it goes on otherwise than asked now.

    Raises UserError where it is another training.
    """
    edits = differences(run.read_recipe()[0], asked)
    if fixed := [name for name in FIXED if name in edits]:
        raise UserError(
            f"`out` {run.path} holds another run ({edits[fixed[0]]}); name another folder."
        )
    if run.result is not None:
        report(f"{run.path} is finished; its result is in {run.result_file}")
        return "finished"
    measured = ("execution", "mean", "std", "early_size")
    others = [edits[name] for name in edits if name not in (*NEUTRAL, *measured)]
    report(
        f"{run.path} holds this run already: going on with it"
        + (f" and its own recipe (not {', '.join(others)})" if others else "")
    )
    return "not finished"


def _check_edits(run: Run, before: Recipe, now: Recipe, accepted: bool) -> None:
    edits = differences(before, now)
    last = run.states.last_file
    if fixed := [name for name in edits if name in FIXED]:
        raise UserError(
            f"{last} does not fit the recipe.json beside it: {edits[fixed[0]]}, which a "
            "run that has begun cannot change; put it back, or train anew."
        )
    if accepted or edits.keys() <= set(NEUTRAL):
        return
    raise UserError(
        f"{last} does not fit the recipe.json beside it, which was changed by hand "
        f"({', '.join(edits.values())}); put it back, or go on with the new values: "
        f"{run.resume_command('--accept-changes')}"
    )


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Of a longer training, warm-up and small images last no longer than they did."""
    if "warmup_share" in changes:
        changes = {"warmup_epochs": None, **changes}
    new = replace(recipe, **changes)
    if new.epochs > recipe.epochs:
        kept = recipe.epochs / new.epochs
        shares = {"warmup_share": recipe.warmup_share, "early_share": recipe.early_share}
        new = replace(new, **{n: v * kept for n, v in shares.items() if n not in changes})
    return new


def differences(before: Recipe, after: Recipe) -> dict[str, str]:
    """Of each field that differs, a text such as "lr 0.1 -> 0.01"."""
    old, new = (json.loads(json.dumps(recipe.to_dict())) for recipe in (before, after))
    return {
        name: f"{name} {_text(old[name])} -> {_text(new[name])}"
        for name in old
        if old[name] != new[name]
    }


def _text(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def check_epochs(plan: Plan, saved: Saved, run: Run) -> None:
    """UserError if nothing is left to train, or the run has passed the plan's last step."""
    step, history = saved["step"], saved["history"]
    done = f"{run.path} has trained {step / plan.steps_per_epoch:g} epochs"
    if plan.total_steps < step or (run.result is not None and plan.total_steps == step):
        raise UserError(f"{done} already; give more `epochs` than {plan.recipe.epochs:g}.")
    if plan.total_steps == step and not (history and history[-1]["step"] == step):
        raise UserError(f"{done} and cannot end within an epoch; give more `epochs`.")


def check_data(plan: Plan, saved: Saved, run: Run) -> None:
    """UserError if the training images are not those that the run was begun with."""
    if saved.get("data") in (None, data_digest(plan.data)):
        return
    raise UserError(
        f"the training images of {plan.data.name} are not those that {run.path} was begun with: "
        "files were added, removed or changed (or copied without their times); put them back, or "
        "go on with what is there: "
        f"{run.resume_command('--accept-changes')}"
    )


def describe_changes(
    before: Recipe, plan: Plan, saved: Saved | None, processes: int
) -> Iterator[str]:
    """Lines: what is computed otherwise from ``saved`` on, and what becomes of the rate."""
    if saved is None:
        yield "nothing was saved yet: starting from the first step"
    elif (was := saved.get("processes", processes)) != processes:
        yield (
            f"trained by {was} process(es) and going on in {processes}: with the same images in "
            "the same order, but batch norm sees those of one process at a time"
        )
    recipe, step = plan.recipe, saved["step"] if saved else 0
    edits = differences(before, recipe)
    edits.pop("execution", None)  # which has a line of its own
    if not edits:
        return
    yield f"changed from here on: {', '.join(edits.values())}"
    moment = step / plan.steps_per_epoch
    was, now, end = (
        learning_rates(*each)
        for each in ((before, moment), (recipe, moment), (recipe, recipe.epochs))
    )
    if step and (was != now or "epochs" in edits):
        rates = ", ".join(f"{n} goes on at {now[n]:.4g}, not {was[n]:.4g}" for n in now)
        yield (
            f"the schedule ({recipe.schedule}) is that of {recipe.epochs:g} epochs from here on: "
            f"{rates}, and ends at {end['lr']:.4g}"
        )


def execution_here(
    plan: Plan,
    saved: Saved | None,
    world: World,
    *,
    asked: bool,
    report: Report,
) -> Execution:
    """The execution of the recipe; where this machine lacks it, one chosen anew.

    Unless it was ``asked`` for just now: then UserError is raised where it comes to be used.
    """
    processes = {"processes": world.size, "local_processes": world.local_size}
    stored = plan.execution
    lack = None if asked else _lacking(stored, saved or {})
    if lack is None:
        cores = available_cores()
        if stored.threads > cores:
            report(
                f"computing with {stored.threads} threads, as before, on {cores} cores: slow, but "
                f"bit for bit; execution {replace(stored, threads=cores)} would be faster"
            )
        return choose_execution(plan, **processes, report=report)
    auto = replace(plan, recipe=replace(plan.recipe, execution="auto"))
    chosen = choose_execution(auto, **processes, report=report)
    report(
        f"execution {stored} cannot be had here ({lack}): going on with {chosen}, whose numbers "
        "differ in their last bits"
    )
    return chosen


def _lacking(execution: Execution, saved: Saved) -> str | None:
    """What of an execution is not to be had on this machine."""
    if execution.device == "cuda":
        return None if torch.cuda.is_available() else "torch finds no GPU"
    if execution.mode in ("fused", "winograd"):
        try:
            compiled(execution.mode)
        except UserError as error:
            return str(error).rstrip(".")
    if execution.mode == "compile" and compiler() is None:
        return "there is no C++ compiler"
    # On the machine where the run was begun, somebody wanted bf16 all the same.
    elsewhere = saved.get("processor", processor()) != processor()
    if execution.precision == "bf16" and elsewhere and not has_fast_bf16():
        return "this processor has no bf16"
    return None
