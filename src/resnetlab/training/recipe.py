"""The recipe record: everything that decides a training, and the table of recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from resnetlab.models.architecture import get_architecture
from resnetlab.records import Record, check_fields, did_you_mean

_NOT_NEGATIVE = (
    *("val_size", "momentum", "weight_decay", "clip_norm", "ema_decay", "warmup_epochs"),
    *("label_smoothing", "crop_padding", "cutout", "mixup", "cutmix", "seed", "split_seed"),
    "early_share",
)
_POSITIVE = ("epochs", "batch_size", "accumulate", "lr", "norm_lr", "image_size", "early_size")


@dataclass(frozen=True, kw_only=True)
class Recipe(Record):
    """How to train a network. Raises ValueError, one sentence, for an impossible value."""

    name: str = "custom"
    """what the run is called"""

    model: str = "resnet20"
    """name in `resnetlab models`"""
    model_overrides: Mapping[str, int | str] = field(default_factory=dict)
    """fields of the architecture to change, e.g. `stem cifar depths 2,2,2,2`"""
    pretrained: str | None = None
    """weights to start from: a run, a file, a torchvision weight, a hub name; default: none"""

    dataset: str = "cifar10"
    """cifar10, fashion-mnist, or a sample of either"""
    data_dir: str | None = None
    """folder that holds the data set already, in torchvision's layout"""
    val_size: int = 5000
    """training images set aside to choose by; 0 trains on all and keeps the last weights"""
    split_seed: int = 0
    """seed of that split, kept apart so that runs of several seeds share it"""
    mean: tuple[float, ...] | None = None
    """of the pixels, per channel, scaled to 0..1; default: the pretrained weights' or the data's"""
    std: tuple[float, ...] | None = None
    """their standard deviation, likewise"""
    image_size: int | None = None
    """pixels; images are resized to it; default: as they are"""

    early_size: int | None = None
    """pixels of the images early in training, which makes those steps cheaper"""
    early_share: float = 0.0
    """share of the training, from its start, that sees images of early_size"""

    epochs: float = 16
    """passes over the training set; a fraction ends within an epoch"""
    batch_size: int = 128
    """images a step, over all processes and accumulated parts"""
    accumulate: int = 1
    """parts that a batch is computed in, one after the other, to save memory"""

    optimizer: Literal["sgd", "nesterov", "muon"] = "nesterov"
    """sgd: with momentum, as in the paper; nesterov: with Nesterov's; muon: nesterov, but the
    convolutions by Muon"""
    lr: float = 0.1
    """learning rate at its highest; with muon, of the classifier, the norms and the biases"""
    norm_lr: float | None = None
    """of the norms and biases, whose gradients are small in a wide network; default: lr"""
    momentum: float = 0.9
    """of SGD"""
    muon_lr: float = 0.05
    """muon's learning rate at its highest: the angle of a step"""
    muon_momentum: float = 0.6
    """of Muon"""
    weight_decay: float = 5e-4
    """L2 penalty"""
    weight_decay_on: Literal["weights", "all"] = "weights"
    """weights: convolutions (but muon's, whose norm is fixed) and the classifier; all: norms and
    biases too, as in the paper"""
    clip_norm: float = 0.0
    """largest gradient norm; 0: no clipping"""
    ema_decay: float = 0.0
    """decay a step of the averaged weights that are then evaluated and kept; 0: no average"""

    schedule: Literal["step", "cosine", "one-cycle"] = "one-cycle"
    """step: divided by 10 at the milestones; cosine: to zero; one-cycle: linearly up and down"""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """of step: shares of the training at which the rate is divided by 10"""
    warmup_epochs: float = 0.0
    """epochs at the start in which the rate climbs (one-cycle: until its peak)"""
    warmup: Literal["linear", "constant"] = "linear"
    """linear: climb from a tenth of the rate; constant: stay at a tenth (the paper's resnet110)"""

    label_smoothing: float = 0.0
    """share of the label given to all classes alike"""
    crop_padding: int = 4
    """pixels added around the image before a random crop of its size; 0: no crop"""
    crop_mode: Literal["zero", "reflect"] = "zero"
    """what the padding holds"""
    flip: Literal["none", "random", "alternating"] = "random"
    """mirroring: random, with one half; alternating: in every second epoch (airbench)"""
    cutout: int = 0
    """pixels of a square that is blanked out; 0: none"""
    mixup: float = 0.0
    """alpha of mixup (arXiv:1710.09412); 0: none"""
    cutmix: float = 0.0
    """alpha of CutMix (arXiv:1905.04899); 0: none"""
    zero_init: Literal["none", "residual"] = "none"
    """residual: each residual branch starts at zero (arXiv:1706.02677)"""

    tta: Literal["none", "flip", "flip-shift"] = "none"
    """test-time augmentation of a second result on the test set: the answers to the image, its
    mirror image and, for flip-shift, both shifted by a pixel are averaged"""

    seed: int = 0
    """of the initial weights, the shuffles and the augmentation"""
    execution: str = "auto"
    """auto: measured and chosen; plain: fp32; or a list such as bf16,channels_last,compile"""

    def __post_init__(self) -> None:
        self.check_choices()
        for name, value in self.to_dict().items():
            numbers = value if isinstance(value, list) else [value]
            if any(isinstance(x, float) and not math.isfinite(x) for x in numbers):
                raise ValueError(f"{name} must be finite, not {value}.")
        for name in _POSITIVE:
            if not (getattr(self, name) is None or getattr(self, name) > 0):
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}.")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}.")
        for name in ("momentum", "muon_momentum", "ema_decay", "label_smoothing", "early_share"):
            if not getattr(self, name) < 1:
                raise ValueError(f"{name} must be less than 1, not {getattr(self, name)}.")
        if self.optimizer != "sgd" and not self.momentum:
            raise ValueError(
                f"optimizer {self.optimizer} needs a momentum; take optimizer sgd without one."
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be computed in {self.accumulate} equal "
                "parts; choose accumulate so that it divides it."
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} must be less than epochs {self.epochs:g}; "
                "change one of them."
            )
        if not all(0 < share < 1 for share in self.milestones):
            raise ValueError(
                f"milestones are shares of the training between 0 and 1, not {self.milestones}."
            )
        if len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std go together: give each a number for every channel.")
        if not all(deviation > 0 for deviation in self.std or ()):
            raise ValueError(f"std must be greater than 0, not {self.std}.")
        for name in ("milestones", "mean", "std"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        get_architecture(self.model, **self.model_overrides)


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

    Raises ValueError, with the nearest name, for a recipe or a field that there is not.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            near = did_you_mean(recipe, RECIPES)
            raise ValueError(f"there is no recipe {recipe!r}{near}")
        recipe = RECIPES[recipe]
    check_fields(Recipe, changes)
    return replace(recipe, **changes)
