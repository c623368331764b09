"""The learning-rate range test: the loss while the rate rises from step to step."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnetlab.arguments import check_types
from resnetlab.compute import distributed
from resnetlab.console import print_to_stderr, progress, with_flags
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.plots.picture import Picture
from resnetlab.plots.rates import plot_rates
from resnetlab.plots.style import check_format
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import get_recipe
from resnetlab.training.plan import Plan, check_plan, load_data, load_pretrained, make_plan
from resnetlab.training.probe import choose_execution
from resnetlab.training.state import State
from resnetlab.training.step import make_batch, train_step
from resnetlab.training.tuning import begin_epoch

SMOOTHING = 0.9
"""Decay per step of the averaged loss, in which the noise of single batches goes under."""

DIVERGED = 4.0
"""Times its lowest value at which the averaged loss has diverged, and the test ends."""

SPAN = 1000.0
"""The test goes from the recipe's rate divided by this to its rate times this."""


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """What ``lr_find`` returns."""

    rates: list[float]
    """``lr`` of each step"""
    losses: list[float]
    """mean cross entropy of each step's batch"""
    smoothed: list[float]
    """their average, see ``SMOOTHING``"""
    suggestion: float
    """for ``lr``: a tenth of the rate at which the averaged loss is lowest (Howard and Gugger 2020,
    arXiv:2002.04688)"""
    changes: dict[str, float]
    """the suggestion for every rate of the recipe, in the recipe's proportions"""
    picture: Picture


@check_types
def lr_find(
    recipe: str | Recipe = "cifar10-quick",
    *,
    steps: int = 100,
    out: str | Path = "lr.png",
    **changes: Any,
) -> RangeTest:
    """Train for a few steps while the learning rate rises, and suggest one (arXiv:1506.01186).

    Nothing is applied and no run is written. All rates of the recipe rise together. Every step is
    one of the recipe's own, with its network, augmentation and what it freezes.

    Args:
        recipe: A recipe, or the name of one.
        steps: How many, at most: the test ends when the loss diverges.
        out: File to draw the curve to.
        changes: Fields of ``Recipe``.

    Raises:
        UserError: The recipe cannot be trained, has no step (``freeze`` backbone), or its loss
            falls nowhere.
    """
    check_format(out)
    if steps < 20:
        raise UserError(f"`steps` must be at least 20, not {steps}: fewer show no curve.")
    recipe = get_recipe(recipe, **changes)
    if recipe.freeze == "backbone":
        raise UserError(
            "`freeze` backbone fits the classifier without any learning rate; there is nothing to "
            "find."
        )
    with torch_defaults(), distributed.start() as world:
        plan = make_plan(recipe, *load_data(recipe))
        check_plan(plan, world)
        execution = choose_execution(plan, report=lambda line: print_to_stderr(with_flags(line)))
        rates, losses = _sweep(plan.set_up(execution), steps)
    smoothed = _smoothed(losses)
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    if lowest == 0:
        raise UserError(
            f"the loss rises from the first step on, at a rate of {rates[0]:.2g}; look at the data "
            "(resnetlab data show), or start from a lower `lr`."
        )
    suggestion = _rounded(rates[lowest] / 10)
    names = ["lr"] + ["norm_lr"] * (recipe.norm_lr is not None)
    names += ["head_lr"] * (recipe.head_lr is not None) + ["muon_lr"] * (recipe.optimizer == "muon")
    found = {name: _rounded(getattr(recipe, name) * suggestion / recipe.lr) for name in names}
    return RangeTest(
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        suggestion=suggestion,
        changes=found,
        picture=plot_rates(rates, losses, smoothed, suggestion, recipe.lr, out),
    )


def _sweep(plan: Plan, steps: int) -> tuple[list[float], list[float]]:
    """``lr`` and mean loss of each step, until the loss diverges."""
    plan = replace(plan, early_steps=0)
    state = State.create(plan, load_pretrained(plan.recipe))
    state.accelerate(plan.execution)
    begin_epoch(plan.recipe, state.model, plan.steps_per_epoch)  # all that will ever be trained
    peaks = state.schedule.base_lrs
    rates: list[float] = []
    losses: list[float] = []
    epochs = (
        (epoch, step, indices)
        for epoch in itertools.count()
        for step, indices in enumerate(plan.batches(epoch))
    )
    what = "raising the learning rate"
    for epoch, step, indices in progress(itertools.islice(epochs, steps), steps, what):
        factor = SPAN ** (2 * len(rates) / (steps - 1) - 1)
        for group, peak in zip(state.optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        batch = make_batch(plan, indices, epoch=epoch, step=step)
        loss, _, n = train_step(plan, state, state.model, *batch).tolist()
        rates.append(plan.recipe.lr * factor)
        losses.append(loss / n)
        average = _smoothed(losses)
        if not math.isfinite(loss) or average[-1] > DIVERGED * min(average):
            break
    kept = [at for at, loss in enumerate(losses) if math.isfinite(loss)]
    return [rates[at] for at in kept], [losses[at] for at in kept]


def _smoothed(losses: list[float]) -> list[float]:
    """The exponential average so far, without its pull to the zero that it starts from."""
    average, result = 0.0, []
    for step, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        result.append(average / (1 - SMOOTHING**step))
    return result


def _rounded(rate: float) -> float:
    """To two digits: more would pretend."""
    return float(f"{rate:.1e}")
