"""The state of a training as it was saved, and the way back to it when a loss is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resnetlab.compute.distributed import World
from resnetlab.errors import UserError
from resnetlab.runs import Run
from resnetlab.training.faults import DivergedError, lower_rates
from resnetlab.training.keeping import Keeper, sums_of
from resnetlab.training.parallel import synchronize
from resnetlab.training.plan import Plan
from resnetlab.training.progress import TrainingProgress
from resnetlab.training.state import State
from resnetlab.weights.checkpoint import Checkpoint

ROLLBACKS = 3
"""How often a run goes back before it gives up."""


def state_of(
    plan: Plan, world: World, weights: Checkpoint | None, saved: Mapping[str, Any] | None
) -> State:
    """The state to train from: that of ``saved``, or the first one, computing as planned."""
    state = State.create(plan, weights)
    if saved is not None:
        state.load({**saved, "sums": sums_of(saved, world)})
        seen = saved["sums"].view(-1, 3).sum(0)[2].item()
        in_epoch = state.step % plan.steps_per_epoch
        if state.step < plan.total_steps and in_epoch and seen and state.history:
            # What ended within this epoch is trained further: the epoch gets its one line later.
            state.history = [line for line in state.history if line["step"] < state.step]
    if plan.recipe.sync_batchnorm == "on":
        synchronize(state.model, world)
    state.accelerate(plan.execution)
    return state


def roll_back(
    error: DivergedError,
    plan: Plan,
    state: State,
    run: Run,
    world: World,
    weights: Checkpoint | None,
    progress: TrainingProgress,
) -> tuple[Plan, State]:
    """The last checkpoint, to go on from with half the learning rate; it is recorded in the run.

    Raises the error where the recipe does not ask for that, and after ``ROLLBACKS`` of them.
    """
    recipe = plan.recipe
    if recipe.on_nan == "stop":
        raise error
    if len(state.rollbacks) == ROLLBACKS:
        raise UserError(
            f"{error.fault}, after {ROLLBACKS} rollbacks to half the rate; look at the data, or "
            f"train anew with a lower `lr` than {recipe.lr:.3g}."
        ) from error
    saved = world.from_main(run.states.latest, progress.say)
    rates = lower_rates(recipe, 2)
    plan = replace(plan, recipe=replace(recipe, **rates))
    back = state_of(plan, world, weights, saved)
    what = {"fault": error.fault, "at": state.step, "back_to": back.step, **rates}
    back.rollbacks = [*state.rollbacks, what]
    world.from_main(run.write_recipe, plan.recipe)
    Keeper(plan, back, run, world, progress).save()
    progress.say(
        f"{error.fault}; rollback {len(back.rollbacks)} of {ROLLBACKS}: going on after step "
        f"{back.step} with {', '.join(f'{name} {rate:.4g}' for name, rate in rates.items())}"
    )
    return plan, back
