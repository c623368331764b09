"""The studies by name: what each varies, on top of which recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from resnetlab.errors import UserError
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import get_recipe
from resnetlab.records import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the things that a study compares; its runs are NAME-seed0, NAME-seed1, ..."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """fields of the study's recipe"""
    passes: float = 1.0
    """epochs for each of the study's; where there are fewer images, each is seen more often"""
    least_epochs: float = 0.0
    """of the study, below which the variant is left out"""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Several runs as one experiment."""

    name: str
    about: str
    """what is compared, and the paper's word on it: the help text"""
    recipe: Recipe
    variants: tuple[Variant, ...]
    seeds: int = 3
    epochs: float | None = None
    """unless somebody asks for others; None: the recipe's own"""
    figure: Literal["degradation", "comparison", "depth", "images"] = "comparison"


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One training of a study."""

    name: str
    """of its folder"""
    variant: Variant
    recipe: Recipe


def planned_runs(study: Study, epochs: float | None, seeds: int) -> list[PlannedRun]:
    """All trainings, a seed after the other, so that the first results are of every variant."""
    epochs = epochs or study.epochs or study.recipe.epochs
    runs = []
    for seed in range(seeds):
        for variant in study.variants:
            if epochs < variant.least_epochs:
                continue
            changes = {"epochs": _round(epochs * variant.passes), **variant.changes}
            recipe = replace(study.recipe, seed=seed, **changes)
            runs.append(
                PlannedRun(name=f"{variant.name}-seed{seed}", variant=variant, recipe=recipe)
            )
    return runs


def _round(epochs: float) -> float:
    return epochs if epochs < 1 or epochs == int(epochs) else round(epochs, 3)


def get_study(name: str, recipe: str | None = None) -> Study:
    """The study of this name; ``seeds`` is of a ``recipe``.

    Raises UserError for an unknown name (the nearest is named) or recipe.
    """
    if name == "seeds":
        if recipe is None:
            raise UserError("a study of seeds needs the `recipe` that is repeated.")
        return _seeds(get_recipe(recipe))
    if name not in STUDIES:
        raise UserError(f"there is no study {name!r}{did_you_mean(name, [*STUDIES, 'seeds'])}")
    if recipe is not None:
        raise UserError(f"study {name} has a recipe of its own; leave `recipe` out.")
    return STUDIES[name]


def _seeds(recipe: Recipe) -> Study:
    return Study(
        name=f"seeds-{recipe.name}",
        about=SEEDS,
        recipe=recipe,
        variants=(Variant(name=recipe.name),),
        seeds=5,
    )


SEEDS = "One recipe with several seeds: how far its result is luck."
_QUICK = get_recipe("cifar10-quick")
_DEPTHS = (20, 32, 44, 56)
_IMAGES = 45_000
"""Training images of CIFAR-10 beside its 5,000 of validation."""


def _models(*names: str) -> tuple[Variant, ...]:
    return tuple(Variant(name=name, changes={"model": name}) for name in names)


def _overrides(model: str, **values: Mapping[str, Any]) -> tuple[Variant, ...]:
    """Variants by name: one network with fields of its architecture changed."""
    return tuple(
        Variant(name=name, changes={"model": model, "model_overrides": fields})
        for name, fields in values.items()
    )


STUDIES = {
    study.name: study
    for study in (
        Study(
            name="degradation",
            about="Plain and residual networks of 20 to 56 layers over the epochs, as in figure 6 "
            "of the paper (arXiv:1512.03385): deeper plain networks have the higher training "
            "error. From 32 epochs on with resnet110. The paper's recipe, but for a schedule that "
            "suits short trainings: linearly up in a quarter of them, then to zero.",
            # With the paper's steps, 8 epochs are too few for the deep residual nets as well.
            recipe=get_recipe(
                "cifar10-paper", schedule="one-cycle", warmup_share=0.25, val_size=5000
            ),
            epochs=8,
            seeds=2,
            figure="degradation",
            variants=(
                *_models(*(f"plain{n}" for n in _DEPTHS), *(f"resnet{n}" for n in _DEPTHS)),
                Variant(name="resnet110", changes={"model": "resnet110"}, least_epochs=32),
            ),
        ),
        Study(
            name="shortcuts",
            about="Shortcuts A, B and C of the paper (table 3): zero-padded identities, "
            "projections where the shape changes, projections everywhere; with resnet32.",
            recipe=_QUICK,
            variants=_overrides("resnet32", **{kind: {"shortcut": kind} for kind in "ABC"}),
        ),
        Study(
            name="blocks",
            about="Basic and bottleneck blocks, 56 layers of each, with shortcut B.",
            recipe=_QUICK,
            variants=_overrides(
                "resnet56",
                basic={"shortcut": "B"},
                bottleneck={"shortcut": "B", "block": "bottleneck", "depths": "6,6,6"},
            ),
        ),
        Study(
            name="preactivation",
            about="ReLU after the addition (2015) or batch norm and ReLU before each convolution "
            "(2016, arXiv:1603.05027), with 56 and 110 layers.",
            recipe=_QUICK,
            variants=(
                *_overrides("resnet56", post56={}, pre56={"activation": "pre"}),
                *_overrides("resnet110", post110={}, pre110={"activation": "pre"}),
            ),
        ),
        Study(
            name="stem",
            about="The stem on images of 32 pixels: how much resolution it may cost; with "
            "resnet20.",
            recipe=_QUICK,
            variants=_overrides(
                "resnet20",
                **{name: {"stem": name} for name in ("cifar", "cifar-pool", "deep", "imagenet")},
            ),
        ),
        Study(
            name="depth",
            about="Error against depth, parameters and time: resnet20 to resnet110.",
            recipe=_QUICK,
            figure="depth",
            variants=_models(*(f"resnet{n}" for n in (*_DEPTHS, 110))),
        ),
        Study(
            name="learning-curve",
            about="Accuracy against the number of training images; each network takes equally "
            "many steps.",
            recipe=_QUICK,
            figure="images",
            variants=tuple(
                Variant(name=str(n), changes={"train_size": n}, passes=_IMAGES / n)
                for n in (1_000, 2_500, 5_000, 10_000, 20_000, _IMAGES)
            ),
        ),
    )
}
"""Name -> study."""
