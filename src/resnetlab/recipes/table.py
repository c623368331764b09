"""The recipes by name, and what each reaches."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from resnetlab.console import print_to_stderr
from resnetlab.errors import UserError
from resnetlab.recipes.measured import MEASURED, PAPER
from resnetlab.recipes.record import Recipe
from resnetlab.records import check_fields, did_you_mean

RECIPES: dict[str, Recipe] = {}
"""Name -> recipe."""
NETWORKS: dict[str, str] = {}
"""Name -> what it trains, in a few words."""
ABOUT: dict[str, str] = {}
"""Name -> that, and what was measured: the help text."""
ALIASES = {"cifar10-resnet50-finetune-textbook": "cifar10-resnet50-textbook"}
"""Former name -> name."""


def _add(recipe: Recipe, network: str, remark: str = "") -> Recipe:
    RECIPES[recipe.name], NETWORKS[recipe.name] = recipe, network
    sentences = [network, MEASURED.get(recipe.name), remark]
    ABOUT[recipe.name] = " ".join(f"{sentence}." for sentence in sentences if sentence)
    return recipe


_quick = _add(
    Recipe(
        name="cifar10-quick",
        optimizer="muon",
        lr=0.2,
        muon_lr=0.04,
        muon_momentum=0.8,
        flip="alternating",
        crop_padding=2,
        crop_mode="reflect",
        epochs=13,
        warmup_share=2 / 13,
        early_size=24,
        early_share=0.4,
    ),
    "ResNet-20 on CIFAR-10",
)
_add(
    Recipe(
        name="cifar10-paper",
        epochs=64_000 / 351,
        optimizer="sgd",
        weight_decay=1e-4,
        weight_decay_on="all",
        schedule="step",
    ),
    "ResNet-20 by the paper's own recipe, 64,000 steps of 128 images",
    PAPER,
)
_add(
    replace(
        _quick,
        name="cifar10-resnet20",
        epochs=20,
        warmup_share=0.1,
        val_size=0,
        early_size=16,
    ),
    "ResNet-20 that passes the paper's accuracy",
    "Trains on all images",
)
_add(
    replace(
        _quick,
        name="cifar10-resnet20-best",
        epochs=130,
        warmup_share=2 / 130,
        val_size=0,
        crop_padding=4,
    ),
    "ResNet-20 trained for long",
    "Trains on all images",
)
_fast = _add(
    replace(
        _quick,
        name="cifar10-94",
        model="fast_resnet8",
        val_size=0,
        batch_size=500,
        lr=0.02,
        norm_lr=1.0,
        muon_lr=0.12,
        muon_momentum=0.6,
        warmup_share=0.0,
        label_smoothing=0.2,
        epochs=16,
        early_size=17,
        tta="flip-shift",
    ),
    "Our fast_resnet8, a wide residual network",
    "Trains on all images; its choices were made on a validation split of 5,000",
)
_add(
    replace(_fast, name="cifar10-95", model="fast_resnet11", epochs=48, crop_padding=3, cutout=8),
    "Our fast_resnet11, a deeper one",
    "Trains on all images; all but its epochs were chosen on a validation split of 5,000",
)
_add(
    Recipe(
        name="cifar10-resnet50-textbook",
        model="resnet50",
        epochs=12,
        warmup_share=2 / 12,
        crop_padding=2,
        crop_mode="reflect",
        flip="alternating",
        zero_init="residual",
    ),
    "ResNet-50 with its ImageNet stem on 32-pixel images, from scratch",
)
_add(
    replace(_fast, name="fashion-mnist-quick", dataset="fashion-mnist", epochs=10, early_size=20),
    "Our fast_resnet8 on Fashion-MNIST",
    "Trains on all images",
)
_add(
    Recipe(
        name="fashion-mnist-textbook",
        dataset="fashion-mnist",
        model="resnet18",
        image_size=96,
        epochs=10,
        warmup_share=0.2,
        crop_padding=8,
        crop_mode="reflect",
        early_size=32,
        early_share=0.7,
    ),
    "ResNet-18 on Fashion-MNIST at 96 pixels",
)
_add(
    Recipe(
        name="smoke",
        dataset="cifar10-sample",
        val_size=100,
        batch_size=64,
        lr=0.05,
        warmup_share=3 / 16,
    ),
    "A few hundred images in seconds, to see that everything works; it learns little",
)


@functools.cache
def resolve(name: str) -> str:
    """The present name of a recipe; of a former one that is said on stderr, once."""
    if name in ALIASES:
        print_to_stderr(f"resnetlab: recipe {name} is called {ALIASES[name]} now.")
    return ALIASES.get(name, name)


def get_recipe(recipe: str | Recipe, **changes: Any) -> Recipe:
    """The named recipe with some fields changed.

    Raises UserError, with the nearest name, for an unknown recipe or field.
    """
    if isinstance(recipe, str):
        recipe = resolve(recipe)
        if recipe not in RECIPES:
            near = did_you_mean(recipe, RECIPES)
            raise UserError(f"there is no recipe {recipe!r}{near}")
        recipe = RECIPES[recipe]
    check_fields(Recipe, changes)
    return replace(recipe, **changes)
