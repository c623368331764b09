"""The two ends of a network side by side: stem and head."""

from __future__ import annotations

from resnetlab.comparison.events import SWALLOWED, Event, find_events, lay_side_by_side
from resnetlab.comparison.findings import Findings
from resnetlab.comparison.operations import Node
from resnetlab.comparison.settings import NAMES, Pairs, compare_settings, compare_widths
from resnetlab.comparison.structure import Structure


def compare_stems(theirs: Structure, ours: Structure, found: Findings, same_style: bool) -> Pairs:
    row = lay_side_by_side(theirs.stem, ours.stem)
    convs = [[n for n in side.stem if n.kind == "conv"] for side in (theirs, ours)]
    shape = [[(n.settings["kernel"], n.settings["stride"]) for n in side] for side in convs]
    events = find_events(row, "stem", theirs.stem)
    place = convs[0][0].label if convs[0] else ""
    if shape[0] != shape[1]:
        mine, other = (_stem_words(side.stem) for side in (theirs, ours))
        found.add(
            "stem",
            f"the stem is {mine}, the reference's is {other}.",
            f"for this reference take {other}.",
            place or "the start of forward",
            "conv1",
        )
        events = [
            event
            for event in events
            if event.node.kind in SWALLOWED and len(convs[0]) == len(convs[1])
        ]
        row_settings = [pair for pair in row if pair[0] and pair[0].kind != "conv"]
        compare_settings(row_settings, theirs.stem, "the stem", "conv1", found, theirs.style)
    else:
        compare_settings(row, theirs.stem, "the stem", "conv1", found, theirs.style)
        compare_widths(row, (place, "conv1"), found, "the stem")
    if not same_style:
        events = [event for event in events if event.node.kind not in SWALLOWED]
    swapped = {e.node.kind for e in events if e.extra} & {
        e.node.kind for e in events if not e.extra
    }
    if swapped:
        remedy = "the order is convolution, batch norm, ReLU, max pool."
        found.add("order", "the stem's operations stand in another order.", remedy, place, "conv1")
    for event in events:
        if event.node.kind in swapped:
            continue
        name = event.node.settings.get("name") or NAMES.get(event.node.kind, event.node.kind)
        suffix = {"norm": "norm", "relu": "relu", "act": "relu", "maxpool": "max-pool"}
        label = suffix.get(event.node.kind, "operation" if event.extra else "layer")
        verb, remedy = (
            ("a", "remove it.") if event.extra else ("no", "the reference has one there.")
        )
        found.add(
            f"{'extra' if event.extra else 'missing'}-{label}",
            f"the stem has {verb} {name}{', the reference has none' if event.extra else ''}.",
            remedy,
            (event.node.label if event.extra else place) or "the stem",
            "conv1",
        )
    return row


def _stem_words(stem: list[Node]) -> str:
    words = []
    for node in stem:
        if node.kind in ("conv", "maxpool"):
            kernel, stride = node.settings.get("kernel"), node.settings.get("stride")
            size = f"{kernel[0]}x{kernel[1]}/{stride[0]}" if kernel and stride else "adaptive"
            words.append(f"{size} {NAMES[node.kind]}")
    if "max pool" not in " ".join(words):
        words.append("no max pool")
    return " and ".join(words)


def compare_heads(theirs: Structure, ours: Structure, found: Findings, same_style: bool) -> Pairs:
    """Report how pooling and classifier differ; returns the operations laid side by side."""
    row = lay_side_by_side(theirs.head, ours.head)
    compare_settings(row, theirs.head, "the head", "", found, theirs.style)
    for event in find_events(row, "head", theirs.head):
        if same_style or event.node.kind not in SWALLOWED:
            _report_head(event, found)
    return row


def _report_head(event: Event, found: Findings) -> None:
    node, kind = event.node, event.node.kind
    name = node.settings.get("name", NAMES.get(kind, kind))
    place = node.label if event.extra else ""
    if event.extra and (kind == "softmax" or name == "sigmoid"):
        found.add(
            "softmax",
            f"the network itself applies {name}.",
            "return the logits: cross entropy applies log_softmax itself, and twice flattens the "
            "gradients.",
            place or "the end of forward",
        )
    elif event.extra:
        label = {"relu": "extra-relu", "act": "extra-relu", "norm": "extra-norm"}.get(kind)
        label = label or ("extra-layer" if kind in ("conv", "linear") else "extra-operation")
        text = f"there is a {name} in the head that the reference does not have."
        found.add(label, text, f"remove the {name}.", place)
    else:
        label = {"globalpool": "pooling", "relu": "missing-relu", "norm": "missing-norm"}.get(kind)
        text = f"there is no {name} in the head."
        found.add(label or "missing-layer", text, f"the reference has one ({node.place}).", "")
