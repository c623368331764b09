"""The recipes by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resnetlab.errors import UserError
from resnetlab.recipes.record import Recipe
from resnetlab.records import check_fields, did_you_mean

RECIPES: dict[str, Recipe] = {}
"""Name -> recipe."""
ABOUT: dict[str, str] = {}
"""Name -> what the recipe reaches, how that was measured, and on what."""
_MACHINE = "two cores of an AMD EPYC with AVX-512 BF16, torch 2.14.1"
_ONE_THREAD = f"one thread of {_MACHINE}"


def _add(recipe: Recipe, about: str) -> Recipe:
    RECIPES[recipe.name], ABOUT[recipe.name] = recipe, about
    return recipe


_quick = _add(
    Recipe(
        name="cifar10-quick",
        optimizer="muon",
        lr=0.2,
        muon_lr=0.04,
        muon_momentum=0.8,
        warmup_epochs=2,
        flip="alternating",
        crop_padding=2,
        crop_mode="reflect",
        epochs=13,
        early_size=24,
        early_share=0.4,
    ),
    "ResNet-20 on CIFAR-10: 90.29 % on the test set (standard deviation 0.15 over 8 runs) in 3 "
    f"to 4 minutes on {_MACHINE}.",
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
    "The paper's ResNet-20: 64,000 steps of 128 images; the paper reports 91.25 %.",
)
_add(
    replace(_quick, name="cifar10-resnet20", epochs=20, val_size=0, early_size=16),
    "ResNet-20 at the paper's own accuracy, 91.25 %: 91.53 % on the test set (standard deviation "
    f"0.17 over 3 seeds) in 4 to 5 minutes on {_MACHINE}; trains on all images.",
)
_add(
    replace(_quick, name="cifar10-resnet20-best", epochs=130, val_size=0, crop_padding=4),
    "ResNet-20 trained for long: 92.73 % on the test set (standard deviation 0.11 over 3 seeds) in "
    f"50 minutes on {_ONE_THREAD}; trains on all images.",
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
        warmup_epochs=0,
        label_smoothing=0.2,
        epochs=16,
        early_size=17,
        tta="flip-shift",
    ),
    "A wide residual network of 8 layers: 94.15 % on the test set with test-time augmentation "
    "(standard deviation 0.08 over 3 seeds), without it 93.19 % (0.25), in 5 minutes on "
    f"{_MACHINE}. Trains on all images; its choices were made with 5,000 set aside.",
)
_add(
    replace(_fast, name="cifar10-95", model="fast_resnet11", epochs=48, crop_padding=3, cutout=8),
    "A residual network of 11 layers: 95.15 % on the test set with test-time augmentation "
    "(standard deviation 0.13 over 3 seeds), without it 94.31 % (0.10), in 18 minutes on "
    f"{_MACHINE}. Trains on all images; all but its epochs were chosen with 5,000 set aside.",
)
_add(
    Recipe(
        name="cifar10-resnet50-finetune-textbook",
        model="resnet50",
        epochs=12,
        warmup_epochs=2,
        crop_padding=2,
        crop_mode="reflect",
        flip="alternating",
        zero_init="residual",
    ),
    "ResNet-50 with the ImageNet stem on 32-pixel images, from scratch: 82.58 % on the test set "
    f"(standard deviation 0.26 over 3 seeds) in 34 minutes on {_ONE_THREAD}; "
    "the exercise that it replaces, fine-tuning for 40 epochs, ends at 75.4 %.",
)
_add(
    replace(_fast, name="fashion-mnist-quick", dataset="fashion-mnist", epochs=10, early_size=20),
    "The network of cifar10-94 with one input channel on Fashion-MNIST: 94.55 % on the test set "
    "(standard deviation 0.10 over 3 seeds), with test-time augmentation 94.66 % (0.02), in 6 "
    f"minutes on {_ONE_THREAD}.",
)
_add(
    Recipe(
        name="fashion-mnist-textbook",
        dataset="fashion-mnist",
        model="resnet18",
        image_size=96,
        epochs=10,
        warmup_epochs=2,
        crop_padding=8,
        crop_mode="reflect",
        early_size=32,
        early_share=0.7,
    ),
    "ResNet-18 with one input channel on Fashion-MNIST at 96 pixels: 91.61 % on the test set "
    f"(standard deviation 0.56 over 3 seeds) in 16 minutes on {_ONE_THREAD}; the exercise that it "
    "replaces ends at 89.3 %.",
)
_add(
    Recipe(
        name="smoke",
        dataset="cifar10-sample",
        val_size=100,
        batch_size=64,
        lr=0.05,
        warmup_epochs=3,
    ),
    "A few hundred real images in seconds: to see that everything works, not to learn.",
)


def get_recipe(recipe: str | Recipe, **changes: Any) -> Recipe:
    """The named recipe with some fields changed.

    Raises UserError, with the nearest name, for a recipe or a field that there is not.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            near = did_you_mean(recipe, RECIPES)
            raise UserError(f"there is no recipe {recipe!r}{near}")
        recipe = RECIPES[recipe]
    check_fields(Recipe, changes)
    return replace(recipe, **changes)
