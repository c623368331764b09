"""Which network of the table the candidate comes closest to."""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import replace
from itertools import groupby
from math import log2
from statistics import median
from typing import Any

from torch import nn

from resnetlab.comparison.layers import align
from resnetlab.comparison.operations import Node, adds_itself
from resnetlab.comparison.structure import GROWING, Structure, Unit, parse
from resnetlab.comparison.target import origin_of
from resnetlab.comparison.trace import Trace
from resnetlab.models.architecture import ARCHITECTURES, Architecture, get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.models.summary import on_meta

SMALL_IMAGE = 48
"""Pixels: up to here the ImageNet stem throws most of the picture away."""

PAPERS = [name for name, record in ARCHITECTURES.items() if record.transition == "block"]
"""What a candidate may mean to be."""

Stage = tuple[int, int, int]
"""(blocks, channels, inner channels)"""


def guess_fields(structure: Structure, image_size: int | None) -> dict[str, Any]:
    """The fields of an ``Architecture`` that most of the structure's blocks speak for.

    ``image_size``: pixels that the user asked for; small ones call for the CIFAR stem.
    """
    units = [unit for unit in structure.units if unit.convs]
    middle = [unit.convs[1] for unit in units if len(unit.convs) == 3]
    bottleneck = 2 * len(middle) > len(units)
    strided = [place for place in map(_stride_place, units) if place is not None]
    return {
        "block": "bottleneck" if bottleneck else "basic",
        "stages": [_stages(units, sizes) for sizes in (True, False)],
        "groups": _majority(node.settings["groups"] for node in middle) if middle else 1,
        "stem": _stem(structure.stem, image_size),
        "shortcut": _shortcut(units, structure),
        "stride_on": "1x1" if bottleneck and _majority(strided or [1]) == 0 else "3x3",
        "activation": structure.style,
    }


def _majority(values: Any) -> Any:
    return Counter(values).most_common(1)[0][0]


def _stages(units: list[Unit], sizes: bool) -> list[Stage]:
    """Each run of units with the same channels (and size)."""
    shapes = [unit.convs[-1].shape[1 : None if sizes else 2] for unit in units]
    stages = [list(run) for _, run in groupby(range(len(units)), key=shapes.__getitem__)]
    outputs = [unit.convs[-1].settings["out"] for unit in units]
    inner = [unit.convs[len(unit.convs) > 2].settings["out"] for unit in units]
    return [(len(run), outputs[run[0]], _majority(inner[i] for i in run)) for run in stages]


def _stride_place(unit: Unit) -> int | None:
    places = [i for i, conv in enumerate(unit.convs) if max(conv.settings["stride"]) > 1]
    return places[0] if places else None


def _stem(stem: list[Node], image_size: int | None) -> str:
    convs = [node for node in stem if node.kind == "conv"]
    if len(convs) >= 3:
        return "deep"
    if image_size is not None and image_size <= SMALL_IMAGE:
        return "cifar"
    votes = any(node.kind in ("maxpool", "avgpool") for node in stem)
    if convs:
        votes += convs[0].settings["kernel"][0] >= 5
        votes += convs[0].settings["stride"][0] > 1
    return "imagenet" if votes >= 2 else "cifar"


def _shortcut(units: list[Unit], structure: Structure) -> str:
    """A, B or D from the blocks that change the shape; 'none' if nothing is added anywhere.

    Never C: a projection where the paper's B has an identity is a finding, not a choice.
    """
    kinds = Counter(unit.shortcut_kind for unit in units)
    if kinds["none"] == len(units):
        # A tensor added to itself means to be the shortcut.
        return "B" if any(adds_itself(node) for node in structure.layers) else "none"
    if kinds["pooled projection"]:
        return "D"
    padded = sum(_pads(unit) for unit in units)
    return "A" if padded > kinds["projection"] else "B"


def _pads(unit: Unit) -> bool:
    kinds = {node.kind for node in unit.shortcut or []}
    return bool(kinds & GROWING) and "conv" not in kinds


def nearest(
    fields: dict[str, Any], name: str, image_size: int | None = None
) -> tuple[str, Architecture]:
    """The closest name of the table and its record with the legitimate choices taken over.

    Legitimate: stem, shortcut A, B or D, v1 or v1.5, the order of 2015 or of 2016. ``name`` of the
    class or factory settles ties, and whether a net without additions means to be residual.
    """
    fields = dict(fields)
    residual = "res" in name.lower() and "plain" not in name.lower()
    if fields["shortcut"] == "none" and residual:
        fields["shortcut"] = "B"
    best = min(PAPERS, key=lambda key: _distance(key, ARCHITECTURES[key], fields, name))
    record = ARCHITECTURES[best]
    changes = {"activation": fields["activation"]}
    if fields["shortcut"] != "none" and record.shortcut != "none":
        changes["shortcut"] = fields["shortcut"]
    if record.block == "bottleneck" and fields["block"] == "bottleneck":
        changes["stride_on"] = fields["stride_on"]
    big = image_size is not None and image_size >= 128 and record.widths[0] >= 64
    changes["stem"] = "imagenet" if big and fields["stem"] == "cifar" else fields["stem"]
    return best, replace(record, **changes)


def _distance(key: str, record: Architecture, fields: dict[str, Any], name: str) -> float:
    outs, inner = record.stage_outputs, map(record.inner_width, record.widths)
    expected = list(zip(record.depths, outs, inner, strict=True))
    cost = min(_stage_cost(stages, expected) for stages in fields["stages"])
    for field, weight in (("block", 12), ("groups", 3), ("activation", 1), ("stride_on", 0.2)):
        cost += weight * (fields[field] != getattr(record, field))
    cost += 6 * ((fields["shortcut"] == "none") != (record.shortcut == "none"))
    cost += 0.2 * (fields["shortcut"] != record.shortcut)
    cost += 0.3 * (fields["stem"] != record.stem)
    return cost - 1.5 * _names(name, key) + 0.001 * len(key)


def _stage_cost(candidate: list[Stage], expected: list[Stage]) -> float:
    """Stages laid side by side; widths count by their ratio to the reference's."""

    def cost(scale: float) -> float:
        def pair(mine: Stage, other: Stage) -> float:
            blocks = min(abs(mine[0] - other[0]), 8) * (1 if mine[0] > 1 or other[0] < 3 else 0.8)
            width = min(1.0, abs(log2(mine[1] / scale / other[1])))
            inner = min(1.0, abs(log2(mine[2] / mine[1] * other[1] / other[2])))
            return blocks + 3 * width + 3 * inner

        pairs = align(candidate, expected, pair, lambda stage: 6.0)
        total = 6.0 * sum(a is None or b is None for a, b in pairs)
        return total + sum(pair(a, b) for a, b in pairs if a is not None and b is not None)

    if not candidate:
        return 6.0 * len(expected)
    scales = {1.0, candidate[0][1] / expected[0][1]}
    scales.add(median(s[1] for s in candidate) / median(s[1] for s in expected))
    return min(cost(scale) + min(2.0, abs(log2(scale))) for scale in scales)


def _names(name: str, key: str) -> bool:
    """Whether a class's name ends with the number of layers in the table's name."""
    layers = re.search(r"\d+", key)
    return layers is not None and re.search(rf"(?<!\d){layers[0]}\D*$", name) is not None


def nearest_by_layers(
    nodes: list[Node], planned: list[dict[str, Any]], name: str
) -> tuple[str, Architecture]:
    """As ``nearest`` for a network that does not run.

    ``nodes``: what ran before the crash. ``planned``: of each module with a 4-D weight its output
    channels, kernel and stride, in order.
    """
    convs = [node.settings for node in nodes if node.kind == "conv"]
    convs = planned if len(planned) > len(convs) else convs
    theirs = Counter(c["out"] for c in convs if max(c["kernel"]) > 1)
    pointwise = sum(max(c["kernel"]) == 1 for c in convs)
    block = "bottleneck" if pointwise > sum(theirs.values()) else "basic"
    strided = [c for c in convs[1:] if max(c["stride"]) > 1]
    v1 = block == "bottleneck" and strided and all(max(c["kernel"]) == 1 for c in strided)
    stride_on = "1x1" if v1 else "3x3"

    def distance(key: str) -> float:
        record = ARCHITECTURES[key]
        expected = Counter({record.channels_after_stem: 1})
        for width, depth in zip(record.widths, record.depths, strict=True):
            expected[record.inner_width(width)] += depth * (1 if block == "bottleneck" else 2)
        count = sum(((theirs - expected) + (expected - theirs)).values())
        other = (record.block != block) + (record.shortcut == "none") + ("pre" in key)
        count += 0.2 * (block == "bottleneck" and record.stride_on != stride_on)
        named = 24 if theirs.total() < expected.total() / 2 else 1.5  # much of it is not built
        return count + 20 * other - named * _names(name, key) + 0.001 * len(key)

    best = min(PAPERS, key=distance)
    record = ARCHITECTURES[best]
    first = convs[0]["kernel"] if convs else (7, 7)
    stem = "imagenet" if max(first) > 3 else "cifar"
    if pointwise:
        record = replace(record, shortcut="B") if record.shortcut == "A" else record
    if block == record.block == "bottleneck":
        record = replace(record, stride_on=stride_on)
    return best, replace(record, stem=stem)


def planned_convolutions(model: nn.Module) -> list[dict[str, Any]]:
    """Output channels, kernel and stride of every module that holds a 4-D weight, in order."""
    rows = []
    for module in model.modules():
        weights = [p for p in module.parameters(recurse=False) if p.dim() == 4]
        for weight in weights:
            stride = next(
                (v for k, v in vars(module).items() if k in ("stride", "s", "strides")), 1
            )
            stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
            rows.append({"out": len(weight), "kernel": tuple(weight.shape[2:]), "stride": stride})
    return rows


def choose_reference(
    model: nn.Module,
    trace: Trace,
    reference: ResNet | Architecture | str | None,
    name: str,
    image_size: int | None,
    num_classes: int | None,
    channels: int,
) -> tuple[str, ResNet]:
    """The reference's name and network: the named one, or the closest of the table.

    It holds no weights, as it takes over the candidate's, unless the user has given it.
    """
    if isinstance(reference, ResNet):
        return "the given network", copy.deepcopy(reference).cpu().float()
    if isinstance(reference, Architecture):
        return "the given network", on_meta(reference)
    if reference is not None:
        key, record = reference, replace(get_architecture(reference), in_channels=channels)
        if image_size and image_size <= SMALL_IMAGE and record.stem == "imagenet":
            record = replace(record, stem="cifar")
        record = replace(record, num_classes=num_classes or record.num_classes)
    elif trace.output is None:
        key, record = nearest_by_layers(trace.nodes, planned_convolutions(model), name)
        record = replace(record, in_channels=channels)
    else:
        parsed = parse(trace.output)
        key, record = nearest(guess_fields(parsed, image_size), name, image_size)
        classes = num_classes or record.num_classes
        if any(node.kind in ("linear", "conv") for node in parsed.head):
            classes = num_classes or _classes(model, trace) or record.num_classes
        record = replace(record, in_channels=channels, num_classes=classes)
    return _words(key, record), on_meta(record)


def _classes(model: nn.Module, trace: Trace) -> int | None:
    """How many classes the candidate means to tell apart: by its own word, or its logits."""
    own = getattr(model, "num_classes", None)
    if isinstance(own, int) and own > 0:
        return own
    columns = (
        trace.logits.shape[-1] if trace.logits is not None and trace.logits.dim() == 2 else None
    )
    return origin_of(model).classes or columns


def _words(name: str, record: Architecture) -> str:
    table = get_architecture(name)
    shown = ("stem", "shortcut", "stride_on", "activation", "in_channels", "num_classes")
    changed = [
        f"{key}={getattr(record, key)}"
        for key in shown
        if getattr(record, key) != getattr(table, key)
    ]
    return f"{name} ({', '.join(changed)})" if changed else name
