"""Other people's tensors: their names turned into ours, and the architecture read off the shapes.

Names that are understood, after a wrapper's prefix (``module.``, ``_orig_mod.``, ``backbone.``, any
common one) has gone: torchvision's and timm's ``resnet*`` as they are; the CIFAR projects'
``linear`` and ``shortcut.0/.1``; Hugging Face transformers' ``encoder.stages.0.layers.0.layer.0``
with ``convolution`` and ``normalization``; MindSpore's ``gamma``, ``beta``, ``moving_mean``,
``moving_variance`` with ``bn1d``/``norm1``, ``down_sample[_layer]``, ``end_point``/``classifier``
(model zoo, tutorials, MindCV, MindVision).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from resnetlab.models.architecture import ARCHITECTURES, EXPANSION, Architecture
from resnetlab.models.resnet import ResNet

_ANCHOR = "layer1.0.conv1.weight"
"""Every network that we can read has it, and what stands before it is a prefix."""

_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(^|\.)(_orig_mod|module)\.", r"\1"),
        (r"\.gamma$", ".weight"),
        (r"\.beta$", ".bias"),
        (r"\.moving_mean$", ".running_mean"),
        (r"\.moving_variance$", ".running_var"),
        (r"(^|\.)embedder\.embedder\.convolution\.", r"\1conv1."),
        (r"(^|\.)embedder\.embedder\.normalization\.", r"\1bn1."),
        (r"(^|\.)encoder\.stages\.(\d+)\.layers\.", lambda m: f"{m[1]}layer{int(m[2]) + 1}."),
        (r"\.layer\.(\d)\.convolution\.", lambda m: f".conv{int(m[1]) + 1}."),
        (r"\.layer\.(\d)\.normalization\.", lambda m: f".bn{int(m[1]) + 1}."),
        (r"\.shortcut\.convolution\.", ".downsample.0."),
        (r"\.shortcut\.normalization\.", ".downsample.1."),
        (r"(^|\.)conv(\d)\.features\.0\.", r"\1conv\2."),
        (r"(^|\.)conv(\d)\.features\.1\.", r"\1bn\2."),
        (r"(^|\.)(bn|norm)(\d)d?\.", r"\1bn\3."),
        (r"(^|\.)(shortcut|down_sample|down_sample_layer)\.(features\.)?", r"\1downsample."),
    )
]
_HEAD = re.compile(
    r"^((?:fc|linear|classifier|head|end_point)(?:\.(?:fc|dense|linear|\d+))?)\.(weight|bias)$"
)
_MINDSPORE = re.compile(r"\.(gamma|moving_mean)$")
_MINDSPORE_TRAINING = re.compile(r"^((moments|moment1|moment2|accum|stat)\..*|[^.]*)$")
"""The optimizer's tensors and counters, which MindSpore saves beside the network's."""


def is_mindspore(names: Iterable[str]) -> bool:
    """Whether the tensors' names are MindSpore's."""
    return any(_MINDSPORE.search(name) for name in names)


def translate(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by our names in fp32, and notes on what was renamed.

    ValueError if two tensors would get one name, or the file holds several networks.
    """
    notes = []
    if is_mindspore(state):
        kept = {k: v for k, v in state.items() if not _MINDSPORE_TRAINING.match(k)}
        if len(kept) < len(state):
            notes.append(f"left out {len(state) - len(kept)} tensors of MindSpore's optimizer")
        state = kept
    names = {old: _rename(old) for old in state}
    if prefix := _prefix(names.values()):
        names = {old: new.removeprefix(prefix) for old, new in names.items()}
    has_bn1 = "bn1.weight" in names.values()
    heads = {match[1] for new in names.values() if (match := _HEAD.match(new))}
    for old, new in names.items():
        if (match := _HEAD.match(new)) and len(heads) == 1:  # several: no linear classifier
            names[old] = f"fc.{match[2]}"
        elif new.startswith("norm.") and not has_bn1:
            names[old] = f"bn1.{new.removeprefix('norm.')}"
    sources: dict[str, str] = {}
    for old, new in names.items():
        if new in sources:
            raise ValueError(f"tensors {sources[new]} and {old} both claim to be {new}.")
        sources[new] = old
    renamed = {old: new for old, new in names.items() if old != new}
    if renamed:
        old = next((old for old in renamed if old.endswith(_ANCHOR)), next(iter(renamed)))
        notes.append(f"renamed {len(renamed)} of {len(names)} tensors, as {old} to {renamed[old]}")
        if "fc.weight" in sources and sources["fc.weight"] != "fc.weight":
            notes.append(f"its classifier is called {sources['fc.weight']}")
    halves = {str(v.dtype) for v in state.values() if v.is_floating_point()} - {"torch.float32"}
    if halves:
        notes.append(f"turned {', '.join(sorted(halves))} into torch.float32")
    return {
        names[old]: value.float() if value.is_floating_point() else value
        for old, value in state.items()
    }, notes


def _rename(name: str) -> str:
    previous = ""
    while name != previous:  # module._orig_mod.module. goes as well
        previous = name
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
    return name


def _prefix(names: Iterable[str]) -> str:
    """What stands before the network's names; ValueError if there are several networks."""
    prefixes = sorted(
        {
            name.removesuffix(_ANCHOR)
            for name in names
            if name == _ANCHOR or name.endswith("." + _ANCHOR)
        }
    )
    if len(prefixes) > 1:
        raise ValueError(
            f"there are {len(prefixes)} networks in it, named {', '.join(map(repr, prefixes))}; "
            "save the one that is wanted by itself."
        )
    return prefixes[0] if prefixes else ""


def recognize(state: Mapping[str, Tensor]) -> Architecture:
    """The architecture that tensors belong to, by their names and shapes alone.

    Tensors cannot tell option A from a plain net, v1 from v1.5, nor a stride or a pooling; see
    ``assumptions``. ValueError if they are no ResNet.
    """
    return read_architecture(translate(state)[0])


def read_architecture(state: Mapping[str, Tensor]) -> Architecture:
    """``recognize`` for tensors that bear our names. Without ``fc.weight``: 1000 classes."""
    try:
        return _read_architecture(state)
    except (KeyError, IndexError) as error:
        raise ValueError(
            "these tensors are no ResNet in a layout known here (torchvision's, timm's resnet*, "
            "CIFAR projects', transformers', MindSpore's): "
            f"{error} is not among {_some(list(state))}."
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


def assumptions(architecture: Architecture) -> list[str]:
    """What ``recognize`` had to assume of a network, as its tensors cannot tell."""
    notes = []
    if architecture.shortcut == "A":
        notes.append(
            "there are no projections: taken for shortcut A, though a plain net looks the same "
            "(name the architecture if it is one)"
        )
    if architecture.block == "bottleneck":
        name, other = ("v1.5", "v1") if architecture.stride_on == "3x3" else ("v1", "v1.5")
        notes.append(
            f"where a bottleneck has its stride cannot be told: taken for {name}, on the "
            f"{architecture.stride_on} (name the architecture if it is {other})"
        )
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


def expected_shapes(architecture: Architecture) -> dict[str, torch.Size]:
    """Name -> shape of everything that the network's state dict holds, in its order."""
    with torch.device("meta"):
        return {name: value.shape for name, value in ResNet(architecture).state_dict().items()}


def complete(
    state: Mapping[str, Tensor], architecture: Architecture, *, allow_mismatch: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """All tensors of the architecture in its order, and notes; nothing is ever half-loaded.

    ``num_batches_tracked``, which old files and other frameworks lack, is filled in with 0. Any
    other missing, unexpected or misshapen tensor raises ValueError that lists them, unless
    ``allow_mismatch``: then fresh values take the place of the missing and misshapen ones, the
    unexpected are left out, and the notes list all.
    """
    shapes, notes = expected_shapes(architecture), []
    counters = [n for n in shapes if n.endswith("num_batches_tracked") and n not in state]
    if counters:
        notes.append(f"filled in {len(counters)} num_batches_tracked, which the file lacks")
    state = {**state, **{name: torch.tensor(0) for name in counters}}
    missing = [name for name in shapes if name not in state]
    unexpected = [name for name in state if name not in shapes]
    misshapen = [n for n, shape in shapes.items() if n in state and state[n].shape != shape]
    faults = [
        f"{len(names)} {kind} ({_some(names)})"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    if faults and not allow_mismatch:
        raise ValueError(
            f"as {describe(architecture)} it has tensors {', '.join(faults)}; nothing was loaded. "
            "Name the right architecture, or allow the mismatch to load what fits."
        )
    if missing or misshapen:
        fresh = ResNet(architecture).state_dict()
        state |= {name: fresh[name] for name in missing + misshapen}
    if faults:
        notes.append(
            f"mismatch allowed: tensors {', '.join(faults)}; what the file does not give is "
            "freshly initialised, what the network does not have is left out"
        )
    return {name: state[name] for name in shapes}, notes


def _some(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
