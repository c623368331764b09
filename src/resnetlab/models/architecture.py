"""The architecture record, one definition for every residual network, and their table.

Paper 1: He et al., Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385.
Paper 2: He et al., Identity Mappings in Deep Residual Networks, 2016, arXiv:1603.05027.
"""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from resnetlab.arguments import check_types
from resnetlab.errors import UserError
from resnetlab.records import Record, check_fields, did_you_mean

EXPANSION = {"single": 1, "basic": 1, "bottleneck": 4}
"""Output channels of a block, divided by its width."""
CONVOLUTIONS = {"single": 1, "basic": 2, "bottleneck": 3}
"""Convolutions of a block, not counting the projection of its shortcut."""


@dataclass(frozen=True, kw_only=True)
class Architecture(Record):
    """A residual (or plain) network as data.

    Raises:
        UserError: The fields do not describe a possible network.
    """

    block: Literal["basic", "bottleneck", "single"]
    """basic: two 3x3 convolutions; bottleneck: 1x1, 3x3 and 1x1, with four times the width as
    output; single: one 3x3"""
    depths: tuple[int, ...]
    """blocks in each stage; every stage after the first halves the resolution"""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """channels of the 3x3 convolutions in each stage"""
    stem: Literal["imagenet", "deep", "cifar", "cifar-pool", "whitening"] = "imagenet"
    """imagenet: 7x7/2 and 3x3/2 max pool; deep: three 3x3 instead of the 7x7 (ResNet-D); cifar:
    3x3/1; cifar-pool: 3x3/1 and the max pool; whitening: fixed 2x2 filters that whiten the training
    images' patches (airbench, arXiv:2404.00498), eight per input channel"""
    stem_width: int | None = None
    """channels after the stem; None: the first stage's width"""
    transition: Literal["block", "pool"] = "block"
    """block: the first block of each later stage has stride 2 and projects (the papers); pool: each
    stage begins with a 3x3 convolution and 2x2 max pooling, and all shortcuts are identities"""
    shortcut: Literal["A", "B", "C", "D", "none"] = "B"
    """A: zero-padded identity; B: 1x1 projection where the shape changes; C: projection everywhere;
    D: B, its stride in an average pooling (ResNet-D, arXiv:1812.01187); none: a plain network"""
    stride_on: Literal["1x1", "3x3"] = "3x3"
    """the bottleneck's stride: on its first 1x1 (v1, the paper) or its 3x3 (v1.5, torchvision)"""
    activation: Literal["post", "pre"] = "post"
    """ReLU after the addition (2015) or batch norm and ReLU before each convolution (2016)"""
    groups: int = 1
    """groups of the bottleneck's 3x3 convolution (ResNeXt)"""
    width_per_group: int = 64
    """channels per group at width 64; 64 with one group is the paper's network"""
    in_channels: int = 3
    """channels of the input image"""
    pooling: Literal["average", "max"] = "average"
    """global pooling before the classifier"""
    num_classes: int = 1000
    """outputs of the classifier"""

    def __post_init__(self) -> None:
        self.check_choices()
        for name in ("depths", "widths"):
            object.__setattr__(self, name, _positive_integers(name, getattr(self, name)))
        for name in ("groups", "width_per_group", "in_channels", "num_classes"):
            _positive_integers(name, [getattr(self, name)])
        if self.stem_width is not None:
            _positive_integers("stem_width", [self.stem_width])
        if len(self.depths) != len(self.widths):
            raise UserError(
                f"depths has {len(self.depths)} stages and widths has {len(self.widths)}; "
                "give one width for each stage."
            )
        if self.block != "bottleneck" and (self.groups, self.width_per_group) != (1, 64):
            raise UserError("groups and width_per_group need block 'bottleneck'.")
        if self.block != "bottleneck" and self.stride_on == "1x1":
            raise UserError("stride_on '1x1' needs block 'bottleneck'; no other block has a 1x1.")
        if self.transition == "pool":
            self._check_pooled()
        elif self.block == "single" or self.stem == "whitening":
            raise UserError("block 'single' and stem 'whitening' need transition 'pool'.")
        if self.stem == "deep" and self.channels_after_stem % 2:
            raise UserError("stem 'deep' needs an even stem width; it starts with half of it.")
        for width in self.widths:
            if not self.inner_width(width):
                raise UserError(
                    f"width_per_group={self.width_per_group} leaves no channel in a stage of width "
                    f"{width}; it must be at least {-(-64 // width)}."
                )
        if self.shortcut == "A":
            for before, after in zip(self.stage_inputs, self.stage_outputs, strict=True):
                if after < before:
                    raise UserError(
                        f"shortcut 'A' can only pad channels, and a stage goes from {before} to "
                        f"{after}; take shortcut 'B' or wider stages."
                    )

    def _check_pooled(self) -> None:
        if self.block == "bottleneck" or self.activation == "pre" or self.shortcut != "B":
            raise UserError(
                "transition 'pool' goes with block 'single' or 'basic', activation 'post' and "
                "shortcut 'B'."
            )
        if self.stem == "whitening" and self.stem_width not in (None, 8 * self.in_channels):
            raise UserError(
                "stem 'whitening' has 8 channels for each input channel; leave out stem_width."
            )

    @property
    def expansion(self) -> int:
        return EXPANSION[self.block]

    @property
    def channels_after_stem(self) -> int:
        if self.stem == "whitening":
            return 8 * self.in_channels
        return self.widths[0] if self.stem_width is None else self.stem_width

    @property
    def stage_outputs(self) -> tuple[int, ...]:
        """Channels after each stage."""
        return tuple(width * self.expansion for width in self.widths)

    @property
    def stage_inputs(self) -> tuple[int, ...]:
        """Channels before each stage."""
        return (self.channels_after_stem, *self.stage_outputs[:-1])

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage: of its first block, or of its pooling."""
        first = 2 if self.transition == "pool" else 1
        return (first,) + (2,) * (len(self.depths) - 1)

    @property
    def stem_stride(self) -> int:
        return {"imagenet": 4, "deep": 4, "cifar-pool": 2}.get(self.stem, 1)

    @property
    def total_stride(self) -> int:
        return self.stem_stride * math.prod(self.strides)

    @property
    def minimum_size(self) -> int:
        """The smallest height and width, in pixels, with two pixels left for every stride."""
        if self.transition == "block":  # rounds up
            return self.total_stride // 2 + 1
        if self.stem == "whitening":  # its 2x2 filters take one pixel
            return self.total_stride + 1
        return self.total_stride

    @property
    def num_layers(self) -> int:
        """Weighted layers as the papers count them: without projections of shortcuts."""
        stem = 3 if self.stem == "deep" else 1
        transitions = len(self.depths) if self.transition == "pool" else 0
        return stem + transitions + sum(self.depths) * CONVOLUTIONS[self.block] + 1

    def inner_width(self, width: int) -> int:
        """Channels of the 3x3 convolution in a stage of this width."""
        return width * self.width_per_group // 64 * self.groups


def _positive_integers(name: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, str):  # "2,2,2", as a command line gives them
        values = [int(part) if part.isdecimal() else part for part in values.split(",")]
    if not isinstance(values, (tuple, list)) or not values:
        raise UserError(f"{name} must be one or more whole numbers, not {values!r}.")
    for value in values:
        if type(value) is not int or value < 1:
            raise UserError(f"{name} must be a positive whole number, not {value!r}.")
    return tuple(values)


_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_IMAGENET = {
    layers: Architecture(block="basic" if layers < 50 else "bottleneck", depths=depths)
    for layers, depths in _DEPTHS.items()
}
_CIFAR = Architecture(
    block="basic",
    depths=(3, 3, 3),
    widths=(16, 32, 64),
    stem="cifar",
    shortcut="A",
    num_classes=10,
)
_FAST = Architecture(
    block="single",
    depths=(1, 1, 1),
    widths=(64, 256, 256),
    stem="whitening",
    transition="pool",
    pooling="max",
    num_classes=10,
)


def _cifar(layers: int, **changes: Any) -> Architecture:
    """The paper's CIFAR network of 6n+2 layers (9n+2 for bottlenecks)."""
    n = (layers - 2) // (9 if changes.get("block") == "bottleneck" else 6)
    return replace(_CIFAR, depths=(n, n, n), **changes)


ARCHITECTURES: dict[str, Architecture] = {
    **{f"resnet{layers}": record for layers, record in _IMAGENET.items()},
    **{f"resnet{n}_v1": replace(_IMAGENET[n], stride_on="1x1") for n in (50, 101, 152)},
    **{f"resnet{n}d": replace(_IMAGENET[n], stem="deep", shortcut="D") for n in _IMAGENET},
    "resnext50_32x4d": replace(_IMAGENET[50], groups=32, width_per_group=4),
    "resnext101_32x8d": replace(_IMAGENET[101], groups=32, width_per_group=8),
    "wide_resnet50_2": replace(_IMAGENET[50], width_per_group=128),
    "wide_resnet101_2": replace(_IMAGENET[101], width_per_group=128),
    **{f"plain{n}": replace(_IMAGENET[n], shortcut="none") for n in (18, 34)},
    **{f"resnet{n}": _cifar(n) for n in (20, 32, 44, 56, 110, 1202)},
    **{f"plain{n}": _cifar(n, shortcut="none") for n in (20, 32, 44, 56)},
    "preresnet110": _cifar(110, activation="pre"),
    **{
        f"preresnet{n}": _cifar(
            n, block="bottleneck", activation="pre", shortcut="B", stride_on="1x1"
        )
        for n in (164, 1001)
    },
    "fast_resnet8": _FAST,
    "fast_resnet11": replace(_FAST, block="basic"),
}
"""Name -> record. Every other network of these families is one of these with fields changed."""


@check_types
def get_architecture(name: str, **overrides: Any) -> Architecture:
    """The record of this name, with ``overrides`` for some of its fields.

    Raises:
        UserError: The name or a field is unknown (the nearest is named), or the overrides do not
            describe a possible network.
    """
    if name not in ARCHITECTURES:
        near = did_you_mean(name, ARCHITECTURES)
        raise UserError(f"there is no model {name!r}{near}")
    check_fields(Architecture, overrides)
    return replace(ARCHITECTURES[name], **overrides)


def list_models(pattern: str = "*") -> list[str]:
    """The names that match a shell pattern such as ``resnet*``, in the order of the table."""
    return [name for name in ARCHITECTURES if fnmatch.fnmatchcase(name, pattern)]


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the papers report of a network; None where they report nothing."""

    parameters: int | None = None
    """exact, as the definition implies (the papers round to 0.01 M)"""
    multiply_adds: float | None = None
    """at 224 pixels (ImageNet) or 32 (CIFAR)"""
    error: float | None = None
    """in %: top-1 on ImageNet's validation set, 10-crop; or on CIFAR-10's test set"""


PUBLISHED = {
    "resnet18": Published(parameters=11_689_512, multiply_adds=1.8e9),
    "resnet34": Published(parameters=21_797_672, multiply_adds=3.6e9, error=24.52),
    "resnet50": Published(parameters=25_557_032, multiply_adds=4.1e9),
    "resnet101": Published(parameters=44_549_160, multiply_adds=7.8e9),
    "resnet152": Published(parameters=60_192_808, multiply_adds=11.5e9),
    "resnet50_v1": Published(parameters=25_557_032, multiply_adds=3.8e9, error=22.85),
    "resnet101_v1": Published(parameters=44_549_160, multiply_adds=7.6e9, error=21.75),
    "resnet152_v1": Published(parameters=60_192_808, multiply_adds=11.3e9, error=21.43),
    "resnext50_32x4d": Published(parameters=25_028_904),
    "resnext101_32x8d": Published(parameters=88_791_336),
    "wide_resnet50_2": Published(parameters=68_883_240),
    "wide_resnet101_2": Published(parameters=126_886_696),
    "plain18": Published(multiply_adds=1.8e9, error=27.94),
    "plain34": Published(multiply_adds=3.6e9, error=28.54),
    "resnet20": Published(parameters=269_722, error=8.75),
    "resnet32": Published(parameters=464_154, error=7.51),
    "resnet44": Published(parameters=658_586, error=7.17),
    "resnet56": Published(parameters=853_018, error=6.97),
    "resnet110": Published(parameters=1_727_962, error=6.43),
    "resnet1202": Published(parameters=19_421_274, error=7.93),
    "preresnet110": Published(error=6.37),
    "preresnet164": Published(error=5.46),
    "preresnet1001": Published(error=4.92),
}
