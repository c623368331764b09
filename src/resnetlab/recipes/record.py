"""The recipe record: everything that decides a training, and the table of recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from resnetlab.errors import UserError
from resnetlab.models.architecture import get_architecture
from resnetlab.records import Record

_NOT_NEGATIVE = (
    *("val_size", "momentum", "weight_decay", "clip_norm", "ema_decay", "warmup_epochs"),
    *("label_smoothing", "crop_padding", "cutout", "mixup", "cutmix", "seed", "split_seed"),
    "early_share",
)
_POSITIVE = ("epochs", "batch_size", "accumulate", "lr", "norm_lr", "image_size", "early_size")


@dataclass(frozen=True, kw_only=True)
class Recipe(Record):
    """How to train a network. Raises UserError, one sentence, for an impossible value."""

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
    """of the pixels scaled to 0..1, a number for each channel; default: the pretrained weights' or
    the data's"""
    std: tuple[float, ...] | None = None
    """their standard deviation, a number for each channel; default: likewise"""
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
                raise UserError(f"{name} must be finite, not {value}.")
        for name in _POSITIVE:
            if not (getattr(self, name) is None or getattr(self, name) > 0):
                raise UserError(f"{name} must be greater than 0, not {getattr(self, name)}.")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}.")
        for name in ("momentum", "muon_momentum", "ema_decay", "label_smoothing", "early_share"):
            if not getattr(self, name) < 1:
                raise UserError(f"{name} must be less than 1, not {getattr(self, name)}.")
        if self.optimizer != "sgd" and not self.momentum:
            raise UserError(
                f"optimizer {self.optimizer} needs a momentum; take optimizer sgd without one."
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"batch_size {self.batch_size} cannot be computed in {self.accumulate} equal "
                "parts; choose accumulate so that it divides it."
            )
        if self.warmup_epochs >= self.epochs:
            raise UserError(
                f"warmup_epochs {self.warmup_epochs:g} must be less than epochs {self.epochs:g}; "
                "change one of them."
            )
        if not all(0 < share < 1 for share in self.milestones):
            raise UserError(
                f"milestones are shares of the training between 0 and 1, not {self.milestones}."
            )
        if len(self.mean or ()) != len(self.std or ()):
            raise UserError("mean and std go together: give each a number for every channel.")
        if not all(deviation > 0 for deviation in self.std or ()):
            raise UserError(f"std must be greater than 0, not {self.std}.")
        for name in ("milestones", "mean", "std"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        get_architecture(self.model, **self.model_overrides)
