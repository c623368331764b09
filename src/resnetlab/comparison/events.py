"""Operations that only one of two rows has, and what several of them mean together."""

from __future__ import annotations

from dataclasses import dataclass

from resnetlab.comparison.align import align
from resnetlab.comparison.findings import Findings
from resnetlab.comparison.operations import Node, adds_itself
from resnetlab.comparison.settings import NAMES, Pairs
from resnetlab.comparison.structure import POOLS

SWALLOWED = ("norm", "relu", "act")


@dataclass
class Event:
    """An operation that only one side has, and after how many convolutions of its row."""

    extra: bool
    node: Node
    slot: str
    position: int
    last: bool = False
    """nothing but the addition follows"""


def lay_side_by_side(theirs: list[Node], ours: list[Node]) -> Pairs:
    return align(theirs, ours, _node_cost, lambda node: 1.5 if node.kind == "conv" else 1.0)


def _node_cost(theirs: Node, ours: Node) -> float:
    a, b = theirs.settings, ours.settings
    if theirs.kind == ours.kind == "conv":
        same = (a[key] == b[key] for key in ("kernel", "out", "stride"))
        return sum(0.3 for equal in same if not equal)
    if theirs.kind == ours.kind:
        return 0.0
    if theirs.kind in POOLS and ours.kind in POOLS:
        return 1.2
    if {theirs.kind, ours.kind} in ({"relu", "act"}, {"conv", "linear"}):
        return 0.5
    return 100.0


def find_events(row: Pairs, slot: str, theirs: list[Node]) -> list[Event]:
    events, convs = [], 0
    for mine, other in row:
        convs += other is not None and other.kind == "conv"
        if mine is None and other is not None:
            events.append(Event(False, other, slot, convs))
        elif other is None and mine is not None:
            events.append(Event(True, mine, slot, convs, mine is theirs[-1]))
    return events


def report_patterns(events: list[Event], where: tuple[str, str], found: Findings) -> list[Event]:
    """Report what several events mean together; returns the others."""

    def take(extra: bool, kind: str, slot: str, position: int | None = None) -> Event | None:
        for event in events:
            if (event.extra, event.node.kind, event.slot) == (extra, kind, slot) and (
                position in (None, event.position)
            ):
                return event
        return None

    def report_split(mine: str, other: str) -> None:
        found.add(
            "shortcut-source",
            f"the shortcut starts {mine} the block's first batch norm and ReLU, the "
            f"reference's {other} them.",
            "paper 2 activates before the split in the net's first block and where a block "
            "projects, and after it in all others.",
            *where,
        )

    for event in [e for e in events if e.node.kind == "conv"]:  # its norm and ReLU go with it
        for kind in SWALLOWED:
            companion = take(event.extra, kind, event.slot)
            if companion:
                events.remove(companion)
    sides = {"before": "after", "branch": "before"}
    for mine, other in (("before", "branch"), ("branch", "before")):  # the order of 2016
        lost = take(False, "norm", other, 0) or take(False, "norm", other)
        gained = take(True, "norm", mine)
        if lost and gained and "before" in (lost.slot, gained.slot) and gained.position == 0:
            moved = (lost, gained, take(False, "relu", other), take(True, "relu", mine))
            events = [event for event in events if event not in moved]
            report_split(sides[mine], sides[other])
        lost, gained = take(False, "relu", other, 0), take(True, "relu", mine, 0)
        if lost and gained:  # the same where batch norm is missing
            events = [event for event in events if event not in (lost, gained)]
            report_split(sides[mine], sides[other])
    late = take(True, "relu", "branch")
    if late and late.last:
        events.remove(late)
        missing = take(False, "relu", "after")
        if missing:
            events.remove(missing)
        found.add(
            "relu-before-addition",
            "the branch ends with a ReLU before the addition"
            + (", and there is none after it." if missing else ", which makes it add only."),
            "add first: relu(branch + shortcut); the branch ends with its batch norm.",
            *where,
        )
    lost, gained = take(False, "norm", "branch"), take(True, "norm", "after")
    if lost and gained:
        events.remove(lost)
        events.remove(gained)
        found.add(
            "norm-after-addition",
            "batch norm stands after the addition instead of at the end of the branch.",
            "normalise the branch, then add, then ReLU.",
            *where,
        )
    for kind in ("relu", "norm"):
        for gained in [e for e in events if e.extra and e.node.kind == kind]:
            lost = take(False, kind, gained.slot, gained.position)
            if lost:
                events.remove(lost)
                events.remove(gained)
                found.add(
                    "order",
                    f"batch norm and ReLU after convolution {gained.position} of the block stand "
                    "in the other order.",
                    "the order is convolution, batch norm, ReLU (2015), "
                    "or batch norm, ReLU, convolution (2016).",
                    *where,
                )
    return events


def _slot(event: Event) -> str:
    if event.slot == "shortcut":
        return "on the shortcut"
    if event.slot == "after":
        return "after the addition"
    if event.slot == "before" or event.position == 0:
        return "before the first convolution of the block"
    return f"after convolution {event.position} of the block"


def report_event(event: Event, where: tuple[str, str], found: Findings) -> None:
    kind, name = event.node.kind, NAMES.get(event.node.kind, event.node.kind)
    if kind == "act":
        name = event.node.settings["name"]
    if adds_itself(event.node):
        name = "sum of a tensor with itself"
    stem = {"relu": "relu", "act": "relu", "norm": "norm", "maxpool": "max-pool"}.get(kind)
    place = where[0]
    if event.extra:
        place = event.node.label or place
        label = f"extra-{stem}" if stem else "extra-layer"
        if kind not in ("conv", "linear") and not stem:
            label = kind if kind == "extra-addition" else "extra-operation"
        text = f"there is a {name} {_slot(event)} that the reference does not have."
        found.add(label, text, f"remove the {name}.", place, where[1])
    else:
        label = f"missing-{stem}" if stem else "missing-layer"
        text = f"there is no {name} {_slot(event)}."
        found.add(label, text, f"the reference has a {name} there.", place, where[1])
