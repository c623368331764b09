"""Other people's tensors: their names turned into ours, and what they lack filled in.

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

import torch
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture
from resnetlab.models.resnet import ResNet
from resnetlab.weights.recognition import describe, some

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


def translate(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], list[str], dict[str, Tensor]]:
    """Tensors by our names in fp32, notes on what was renamed, and what lay beside the network.

    UserError if two tensors would get one name, or the file holds several networks.
    """
    notes = []
    if is_mindspore(state):
        kept = {k: v for k, v in state.items() if not _MINDSPORE_TRAINING.match(k)}
        if len(kept) < len(state):
            notes.append(f"left out {len(state) - len(kept)} tensors of MindSpore's optimizer")
        state = kept
    names = {old: _rename(old) for old in state}
    names, others = _split(names)
    beside = {old: state[old] for old in others}
    if beside:
        notes.append(f"left out {len(beside)} tensors beside the network ({some(list(beside))})")
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
            raise UserError(f"tensors {sources[new]} and {old} both claim to be {new}.")
        sources[new] = old
    renamed = {old: new for old, new in names.items() if old != new}
    if renamed:
        old = next((old for old in renamed if old.endswith(_ANCHOR)), next(iter(renamed)))
        notes.append(f"renamed {len(renamed)} of {len(names)} tensors, as {old} to {renamed[old]}")
        if "fc.weight" in sources and sources["fc.weight"] != "fc.weight":
            notes.append(f"its classifier is called {sources['fc.weight']}")
    state = {old: state[old] for old in names}
    halves = {str(v.dtype) for v in state.values() if v.is_floating_point()} - {"torch.float32"}
    if halves:
        notes.append(f"turned {', '.join(sorted(halves))} into torch.float32")
    return (
        {
            names[old]: value.float() if value.is_floating_point() else value
            for old, value in state.items()
        },
        notes,
        beside,
    )


def _split(names: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The network's tensors without the prefix that they share, and those beside it.

    ``names``: old -> new. A classifier may stand beside a backbone; a counter of averages, a loss
    or a normalisation is none of the network's.
    """
    prefix = _prefix(names.values())
    anchor = next((old for old, new in names.items() if new == prefix + _ANCHOR), "")
    found = re.match(r"(?:(?:module|_orig_mod)\.)+", anchor)
    wrapper = found[0] if found else ""
    inside = {
        old: new.removeprefix(prefix)
        for old, new in names.items()
        if new.startswith(prefix) and old.startswith(wrapper)
    }
    beside = [old for old in names if old not in inside]
    if not any(_HEAD.match(new) for new in inside.values()):
        heads = {old: names[old] for old in beside if _HEAD.match(names[old])}
        inside |= heads
        beside = [old for old in beside if old not in heads]
    return inside, beside


def _rename(name: str) -> str:
    previous = ""
    while name != previous:  # module._orig_mod.module. goes as well
        previous = name
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
    return name


def _prefix(names: Iterable[str]) -> str:
    """What stands before the network's names; UserError if there are several networks."""
    prefixes = sorted(
        {
            name.removesuffix(_ANCHOR)
            for name in names
            if name == _ANCHOR or name.endswith("." + _ANCHOR)
        }
    )
    if len(prefixes) > 1:
        raise UserError(
            f"there are {len(prefixes)} networks in it, named {', '.join(map(repr, prefixes))}; "
            "save the one that is wanted by itself."
        )
    return prefixes[0] if prefixes else ""


def expected_shapes(architecture: Architecture) -> dict[str, torch.Size]:
    """Name -> shape of everything that the network's state dict holds, in its order."""
    with torch.device("meta"):
        return {name: value.shape for name, value in ResNet(architecture).state_dict().items()}


def complete(
    state: Mapping[str, Tensor],
    architecture: Architecture,
    *,
    allow_mismatch: bool = False,
    head: bool = True,
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """All tensors of the architecture in its order, notes, and names of those that are fresh.

    ``num_batches_tracked``, which old files and other frameworks lack, is filled in with 0. Any
    other missing, unexpected or misshapen tensor raises UserError that lists them, unless
    ``allow_mismatch``: then fresh values take the place of the missing and misshapen ones, the
    unexpected are left out, and the notes list all. Without ``head`` that holds for the classifier
    alone, as a training gives the network another. Values that are not finite are refused.
    """
    shapes, notes = expected_shapes(architecture), []
    counters = [n for n in shapes if n.endswith("num_batches_tracked") and n not in state]
    if counters:
        notes.append(f"filled in {len(counters)} num_batches_tracked, which the file lacks")
    state = {**state, **{name: torch.tensor(0) for name in counters}}
    fits = {name for name, shape in shapes.items() if name in state and state[name].shape == shape}
    needed = shapes
    if not head and not {"fc.weight", "fc.bias"} <= fits:
        left_out = [name for name in state if name.startswith("fc.")]
        notes.append(
            f"its classifier ({some(left_out)}) is left out" if left_out else "it has no classifier"
        )
        fits -= {"fc.weight", "fc.bias"}
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
        needed = {name: shape for name, shape in shapes.items() if not name.startswith("fc.")}
    missing = [name for name in needed if name not in state]
    unexpected = [name for name in state if name not in shapes]
    misshapen = [name for name in needed if name in state and name not in fits]
    faults = [
        f"{len(names)} {kind} ({some(names)})"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    if faults and not allow_mismatch:
        if not (unexpected or misshapen) and {"fc.weight", "fc.bias"} == set(missing):
            raise UserError(
                "it has no classifier (2 missing: fc.weight, fc.bias), so it names no classes; "
                "train it one, with `pretrained` of train or finetune."
            )
        raise UserError(
            f"as {describe(architecture)} it has tensors {', '.join(faults)}; nothing was loaded: "
            + remedy(training=not head)
        )
    fresh = [name for name in shapes if name not in fits]
    if fresh:
        initial = ResNet(architecture).state_dict()
        state |= {name: initial[name] for name in fresh}
    if faults:
        notes.append(
            f"mismatch allowed: tensors {', '.join(faults)}; what the file does not give is "
            "freshly initialised, what the network does not have is left out"
        )
    _check_values(state)
    return {name: state[name] for name in shapes}, notes, fresh


def remedy(training: bool) -> str:
    """What to do where a file is of another network than the one asked for."""
    matching = ", or take what fits: `load` matching" if training else ""
    return f"name the right architecture with `model`{matching}."


def _check_values(state: Mapping[str, Tensor]) -> None:
    """UserError for a tensor that no training could have left."""
    for name, value in state.items():
        if value.is_floating_point() and not (finite := value.isfinite()).all():
            wrong = value.numel() - int(finite.sum())
            raise UserError(
                f"tensor {name} holds {wrong} values of {value.numel()} that are not finite; its "
                "training diverged or the file is damaged."
            )
        if name.endswith("running_var") and (value < 0).any():
            raise UserError(f"tensor {name} holds negative variances; the file is damaged.")
