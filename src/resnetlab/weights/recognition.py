"""The architecture of a network, read off its tensors alone, and told in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Literal

from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.models.architecture import ARCHITECTURES, EXPANSION, Architecture


def read_architecture(state: Mapping[str, Tensor]) -> Architecture:
    """The architecture that tensors belong to, by their names, which are ours, and their shapes.

    Tensors cannot tell option A from a plain net, v1 from v1.5, nor a stride or a pooling; see
    ``assumptions``. Without ``fc.weight``: 1000 classes. UserError if they are no ResNet.
    """
    try:
        return _read_architecture(state)
    except (KeyError, IndexError) as error:
        raise UserError(
            "these tensors are no ResNet in a layout known here (torchvision's, timm's resnet*, "
            "CIFAR projects', transformers', MindSpore's): "
            f"{error} is not among {some(list(state))}."
        ) from error


def _read_architecture(state: Mapping[str, Tensor]) -> Architecture:
    deep = "conv1.0.weight" in state
    first = state["conv1.0.weight" if deep else "conv1.weight"]
    if first.shape[3] == 2:
        return _read_pooled(state)
    after_stem = state["conv1.6.weight"].shape[0] if deep else first.shape[0]
    block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    last = "conv3" if block == "bottleneck" else "conv2"
    depths, outputs = [], []
    while not depths or f"layer{len(depths) + 1}.0.{last}.weight" in state:
        stage, blocks = f"layer{len(depths) + 1}", 1
        while f"{stage}.{blocks}.{last}.weight" in state:
            blocks += 1
        depths.append(blocks)
        outputs.append(state[f"{stage}.0.{last}.weight"].shape[0])
    widths = [channels // EXPANSION[block] for channels in outputs]
    activation = "post" if "bn1.weight" in state else "pre"
    groups, width_per_group = _groups(state, widths) if block == "bottleneck" else (1, 64)
    return Architecture(
        block=block,
        depths=tuple(depths),
        widths=tuple(widths),
        stem="deep" if deep else "cifar" if first.shape[3] == 3 else "imagenet",
        stem_width=None if after_stem == widths[0] else after_stem,
        shortcut=_shortcut(state, [after_stem, *outputs]),
        stride_on="1x1" if (block, activation) == ("bottleneck", "pre") else "3x3",
        activation=activation,
        groups=groups,
        width_per_group=width_per_group,
        in_channels=first.shape[1],
        num_classes=state["fc.weight"].shape[0] if "fc.weight" in state else 1000,
    )


def _read_pooled(state: Mapping[str, Tensor]) -> Architecture:
    """A network with a whitening stem; its pooling is taken for the table's."""
    depths, widths = [], []
    while f"layer{len(widths) + 1}.0.conv1.weight" in state:
        stage = f"layer{len(widths) + 1}"
        widths.append(state[f"{stage}.0.conv1.weight"].shape[0])
        depths.append(
            sum(re.fullmatch(rf"{stage}.[1-9]\d*.conv1.weight", k) is not None for k in state)
        )
    return replace(
        ARCHITECTURES["fast_resnet8"],
        block="basic" if "layer1.1.conv2.weight" in state else "single",
        depths=tuple(depths),
        widths=tuple(widths),
        in_channels=state["conv1.weight"].shape[1],
        num_classes=state["fc.weight"].shape[0] if "fc.weight" in state else 1000,
    )


def _shortcut(
    state: Mapping[str, Tensor], channels: list[int]
) -> Literal["A", "B", "C", "D", "none"]:
    """``channels``: after the stem and after each stage."""
    projections = [name for name in state if re.search(r"\.downsample\.\d\.weight$", name)]
    if not projections:
        return "A" if channels == sorted(channels) else "none"  # option A cannot narrow
    if any(state[name].dim() == 4 and ".downsample.1." in name for name in projections):
        return "D"
    needless = any(".1.downsample.0" in name for name in projections) or (
        channels[0] == channels[1] and "layer1.0.downsample.0.weight" in state
    )
    return "C" if needless else "B"


def _groups(state: Mapping[str, Tensor], widths: list[int]) -> tuple[int, int]:
    """``groups`` and the least ``width_per_group`` that give the stages' 3x3 their channels."""
    shapes = [state[f"layer{i + 1}.0.conv2.weight"].shape for i in range(len(widths))]
    sizes = zip(shapes, widths, strict=True)
    least = [-(-64 * shape[1] // max(width, 1)) for shape, width in sizes]
    return shapes[0][0] // max(shapes[0][1], 1), max(least)


def assumptions(architecture: Architecture, stated: Collection[str] = ()) -> list[str]:
    """What ``read_architecture`` had to assume of a network, as its tensors cannot tell.

    ``stated``: fields of the architecture that are known otherwise.
    """
    notes = []
    if architecture.shortcut == "A" and "shortcut" not in stated:
        notes.append(
            "there are no projections: taken for shortcut A, though a plain net looks the same "
            "(if it is one: `model_overrides` shortcut none)"
        )
    if architecture.stem == "cifar" and "stem" not in stated:
        notes.append(
            "whether pooling follows its 3x3 stem cannot be told: taken for none (if there is a "
            "max pool: `model_overrides` stem cifar-pool)"
        )
    if architecture.block == "bottleneck" and "stride_on" not in stated:
        names = {"3x3": "v1.5", "1x1": "v1"}
        on = architecture.stride_on
        (other,) = names.keys() - {on}
        notes.append(
            f"where a bottleneck has its stride cannot be told: taken for {names[on]}, on the {on} "
            f"(if it is {names[other]}: `model_overrides` stride_on {other})"
        )
    notes.append("strides and dilation of its stages and eps of its norms are taken for the usual")
    return notes


def describe(architecture: Architecture) -> str:
    """Plain words: ``CIFAR resnet20, shortcut A, 10 classes, 3 input channels``."""
    a = architecture
    name = _name(a, shortcut=a.shortcut) or _name(a, shortcut=a.shortcut, stem=a.stem)
    if name is None:
        depths, widths = ("-".join(map(str, numbers)) for numbers in (a.depths, a.widths))
        kind = "" if a.activation == "post" else "pre-activation "
        name = f"{kind}{a.block} network of depths {depths} and widths {widths}"
    usual = ARCHITECTURES[name].stem if name in ARCHITECTURES else None
    family = "CIFAR " if a.stem == usual == "cifar" else ""
    stem = "" if a.stem == usual else f"stem {a.stem}, "
    shortcut = "no shortcut" if a.shortcut == "none" else f"shortcut {a.shortcut}"
    channels = "1 input channel" if a.in_channels == 1 else f"{a.in_channels} input channels"
    return f"{family}{name}, {stem}{shortcut}, {a.num_classes} classes, {channels}"


def _name(architecture: Architecture, **changes: str) -> str | None:
    """The first name in the table whose record, so changed, is this one."""
    sizes = {"num_classes": architecture.num_classes, "in_channels": architecture.in_channels}
    exact = [n for n, record in ARCHITECTURES.items() if replace(record, **sizes) == architecture]
    like = [
        n
        for n, record in ARCHITECTURES.items()
        if record.shortcut != "none"
        and record.transition == architecture.transition
        and replace(record, **sizes, **changes) == architecture
    ]
    return next(iter(exact + like), None)


def named(architecture: Architecture) -> tuple[str, dict[str, int | str]]:
    """The nearest name in the table, and the fields in which the record differs from it.

    The fields are as ``get_architecture`` takes them; classes and input channels are left out.
    """
    sizes = {"num_classes": architecture.num_classes, "in_channels": architecture.in_channels}
    alike = {name: replace(record, **sizes) for name, record in ARCHITECTURES.items()}
    nearest = min(alike, key=lambda name: len(differences(alike[name], architecture)))
    changes = {}
    for field in fields(Architecture):
        value = getattr(architecture, field.name)
        if value != getattr(alike[nearest], field.name):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            changes[field.name] = text
    return nearest, changes


def differences(one: Architecture, other: Architecture) -> list[str]:
    """Fields in which the second record differs from the first, with the second's values."""
    pairs = [(f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(Architecture)]
    return [f"{name} {value}" for name, first, value in pairs if first != value]


def some(names: list[str], limit: int = 6) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
