"""The two ends of a network beside the reference's: stem and head."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, takewhile

from resnetlab.comparison.kinds import Findings
from resnetlab.comparison.layers import (
    STEMS,
    SWALLOWED,
    Pairs,
    a,
    compare_settings,
    compare_widths,
    find_events,
    lay_side_by_side,
)
from resnetlab.comparison.operations import Node, shrinkage
from resnetlab.comparison.structure import ODD_POOLS, Structure


def compare_stems(
    candidate: Structure, reference: Structure, found: Findings, same_style: bool, ratio: float
) -> Pairs:
    candidate = _without_halving(_without_normalising(candidate, found), found)
    row = lay_side_by_side(candidate.stem, reference.stem)
    sides = (candidate, reference)
    convs = [[n for n in side.stem if n.kind == "conv"] for side in sides]
    shapes = [[(n.settings["kernel"], n.settings["stride"]) for n in side] for side in convs]
    place = convs[0][0].label if convs[0] else "the start of forward"
    events = find_events(row, "stem")
    if shapes[0] != shapes[1]:
        mine, other = (_stem_words(side.stem) for side in sides)
        text = f"the stem is {mine}, the reference's is {other}."
        node = convs[0][0] if convs[0] else None
        found.add(
            "stem", text, place, "conv1", remedy=f"for this reference take {other}.", node=node
        )
        same_count = len(convs[0]) == len(convs[1])
        events = [e for e in events if e.node.kind in SWALLOWED and same_count]
    settled = [(x, y) for x, y in row if shapes[0] == shapes[1] or (x and x.kind != "conv")]
    plain = [
        n
        for n in candidate.stem
        if shapes[0] == shapes[1] or n.kind != "conv" or _normed(n, candidate.stem)
    ]
    compare_settings(settled, plain, ("the stem", "conv1"), found, candidate.style)
    widths = [[n.settings["out"] for n in side] for side in convs]
    if widths[0] != widths[1] and [w * ratio for w in widths[1]] != widths[0]:
        compare_widths(row, (place, "conv1"), found, "the stem")
    if not same_style:
        events = [event for event in events if event.node.kind not in SWALLOWED]
    lost = {e.node.kind for e in events if not e.extra}
    swapped = {e.node.kind for e in events if e.extra} & lost
    if swapped:
        remedy = "the order is convolution, batch norm, ReLU, max pool."
        text = "the stem's operations stand in another order."
        node = next(e.node for e in events if e.extra and e.node.kind in swapped)
        found.add("order", text, place, "conv1", remedy=remedy, node=node)
    for event in events:
        if event.node.kind in swapped:
            continue
        node = event.node
        if node.kind in ("repeat", "cat") or (node.kind == "expanded"):
            continue
        suffix = STEMS.get(node.kind, "operation" if event.extra else "layer")
        words = node.words
        if event.extra:
            text = f"the stem has {a(words)}, the reference has none."
            where = node.label or place
            remedy = f"remove the {words}."
        else:
            text, where, remedy = f"the stem has no {words}.", place, ""
        kind = f"{'extra' if event.extra else 'missing'}-{suffix}"
        line = convs[0][0].location if convs[0] and not event.extra else None
        found.add(
            kind, text, where, "conv1", remedy=remedy, node=node if event.extra else None, line=line
        )
    return row


def _without_normalising(candidate: Structure, found: Findings) -> Structure:
    """The stem without the image's own normalisation before it, which is reported."""
    lead = list(takewhile(lambda node: node.kind in ("scale", "shift"), candidate.stem))
    if not lead:
        return candidate
    text = "the network normalises the image itself before its first convolution."
    found.add("normalised-input", text, lead[0].label or "the start of forward", node=lead[0])
    return replace(candidate, stem=candidate.stem[len(lead) :])


def _without_halving(candidate: Structure, found: Findings) -> Structure:
    """The stem with the stride of a filter or pool in the max pool before it, which is reported."""
    for before, node in pairwise(candidate.stem):
        if before.kind == "maxpool" and node.kind in ("blur", "avgpool"):
            text = f"{a(node.words)} behind the stem's max pool halves the resolution, the "
            text += "reference's max pool has stride 2."
            found.add("stride-by-pooling", text, node.label, "maxpool", node=node)
            stem = [n for n in candidate.stem if n is not node]
            before.settings["stride"] = shrinkage(node)
            return replace(candidate, stem=stem)
    return candidate


def _normed(node: Node, row: list[Node]) -> bool:
    at = row.index(node)
    return len(row) > at + 1 and row[at + 1].kind == "norm"


def _stem_words(stem: list[Node]) -> str:
    words = []
    for node in stem:
        if node.kind in ("conv", "maxpool", "avgpool"):
            kernel, stride = node.settings.get("kernel"), node.settings.get("stride")
            size = f"{kernel[0]}x{kernel[1]}/{stride[0]}" if kernel and stride else "adaptive"
            words.append(f"a {size} {node.words}")
    if not any("max pool" in word for word in words):
        words.append("no max pool")
    return " and ".join(words)


def compare_heads(
    candidate: Structure, reference: Structure, found: Findings, same_style: bool
) -> Pairs:
    row = lay_side_by_side(candidate.head, reference.head)
    events = find_events(row, "head")
    lost = {event.node.kind for event in events if not event.extra}
    if "linear" in lost and not any(n.kind in ("linear", "conv") for n in candidate.head):
        pooled = any(n.kind in ("globalpool", "avgpool", "maxpool") for n in candidate.head)
        what = "features" if pooled else "feature maps"
        found.add(
            "no-classifier",
            f"the network returns {what}: it has no classifier.",
            "the end of forward",
            "fc",
        )
        events = [e for e in events if e.extra or e.node.kind not in ("linear", "globalpool")]
    first = next((i for i, n in enumerate(candidate.head) if n.kind == "linear"), None)
    pooling = candidate.head[:first]
    if any(node.kind in ODD_POOLS for node in pooling):
        words = " and ".join(dict.fromkeys(node.words for node in pooling))
        text = f"the maps become features by {words}; the reference averages over the whole map."
        found.add("pooling", text, pooling[0].label, node=pooling[0])
        events = [e for e in events if e.node not in pooling and e.node.kind != "globalpool"]
    if any(e.extra and e.node.kind == "linear" for e in events):  # its activation goes with it
        events = [e for e in events if not e.extra or e.node.kind not in SWALLOWED]
    compare_settings(row, candidate.head, ("the head", ""), found, "post")
    for event in events:
        node, kind = event.node, event.node.kind
        if kind in SWALLOWED and not same_style:
            continue
        words = node.words
        if event.extra and (kind == "softmax" or words in ("Sigmoid",)):
            text = f"the network itself applies {words}."
            found.add("softmax", text, node.label or "the end of forward", node=node)
        elif event.extra:
            label = {"relu": "extra-relu", "act": "extra-relu", "norm": "extra-norm"}.get(kind)
            label = label or ("extra-layer" if kind in ("conv", "linear") else "extra-operation")
            text = f"there is {a(words)} in the head that the reference does not have."
            found.add(label, text, node.label, remedy=f"remove the {words}.", node=node)
        else:
            label = {"globalpool": "pooling", "relu": "missing-relu", "norm": "missing-norm"}
            text = f"there is no {words} in the head."
            remedy = f"the reference has one ({node.place})."
            found.add(label.get(kind, "missing-layer"), text, "the head", node.place, remedy=remedy)
    return row
