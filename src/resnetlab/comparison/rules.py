"""Two structures side by side: each difference found by one rule, said in terms of blocks."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from math import log
from typing import Any

from resnetlab.comparison.layers import (
    SWALLOWED,
    Case,
    Event,
    Pairs,
    align,
    compare_heads,
    compare_settings,
    compare_stems,
    compare_widths,
    find_events,
    lay_side_by_side,
    report_events,
)
from resnetlab.comparison.operations import Node, behind, shrinkage
from resnetlab.comparison.report import Findings, a, plural
from resnetlab.comparison.structure import MERGES, Structure, Unit

UnitPairs = list[tuple[Unit | None, Unit | None]]


@dataclass
class SideBySide:
    """What two structures have in common: blocks and operations in pairs."""

    units: UnitPairs
    operations: Pairs


def compare_structures(candidate: Structure, reference: Structure, found: Findings) -> SideBySide:
    """Report how ``candidate`` differs from ``reference``."""
    units = pair_units(candidate, reference)
    case = Case(candidate, reference, units, common_ratio(units), found)
    if not case.same_style:
        places = (candidate.units[0].place, reference.units[0].place)
        found.add("activation-order", candidate.style, *places)
    if case.ratio != 1:
        outs = ", ".join(map(str, dict.fromkeys(unit.out for unit in reference.units)))
        first = candidate.name(candidate.units[0])
        found.add("width", "stages", first, ratio=f"{case.ratio:g}", theirs=outs)
    pairs = compare_stems(case)
    _depths(case)
    moved = _moved_strides(case)
    for mine, other in units:
        if mine is not None and other is not None:
            pairs += _Block(mine, other, case).compare(strides=not moved)
        else:
            pairs += _alone(mine.layers if mine else [], other.layers if other else [])
    pairs += compare_heads(case)
    report_events(case.events, found)
    return SideBySide(units, pairs)


def _moved_strides(case: Case) -> bool:
    """Say in one finding that some blocks halve the resolution in place of others."""
    both = [(a, b) for a, b in case.units if a is not None and b is not None]
    needless = [(a, b) for a, b in both if a.stride > b.stride]
    forgotten = [(a, b) for a, b in both if a.stride < b.stride]
    if not needless or not forgotten:
        return False
    rows = [[tuple(other.place.split(".")) for _, other in side] for side in (needless, forgotten)]
    starts = all(block == "0" for side in rows for _, block in side)
    opening = [(a, b) for a, b in both if b.place.endswith(".0")]
    mine, theirs = (", ".join(str(u.stride) for u in side) for side in zip(*opening, strict=True))
    here, there = (_ordinals(side) for side in rows)
    say = partial(case.found.add, mine=mine, theirs=theirs, here=here, there=there)
    for one, two in (*needless, *forgotten):
        name = case.candidate.name(one)
        say("stride", "moved" if starts else "inside", name, two.place, module=name)
    return True


def _ordinals(places: list[tuple[str, ...]]) -> str:
    """Blocks of the reference in words: the first block of stages 2, 3 and 4."""
    stages: dict[str, list[str]] = {}
    for stage, block in places:
        stages.setdefault(block, []).append(stage.removeprefix("layer"))
    words = []
    for block, numbers in stages.items():
        number = int(block) + 1
        ordinal = {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
        listed = " and ".join(filter(None, (", ".join(numbers[:-1]), numbers[-1])))
        words.append(f"the {ordinal} block of stage{'s' * bool(numbers[1:])} {listed}")
    return " and ".join(words)


def _alone(candidate: list[Node], reference: list[Node]) -> Pairs:
    """Operations without partners."""
    return [*((node, None) for node in candidate), *((None, node) for node in reference)]


def pair_units(candidate: Structure, reference: Structure) -> UnitPairs:
    """Blocks laid side by side, stage by stage if there are as many stages.

    Else first of a stage with first of a stage, widths by their ratio.
    """
    sides = [[unit.out or 1 for unit in side.units] for side in (candidate, reference)]
    scale = min(sides[0], default=1) / min(sides[1], default=1)
    stages = [_stages(side.units) for side in (candidate, reference)]
    opens = {id(stage[0]) for side in stages for stage in side}
    rows = [(candidate.units, reference.units)]
    if len(stages[0]) == len(stages[1]):
        rows = list(zip(*stages, strict=True))

    def cost(mine: Unit, other: Unit) -> float:
        cost = 0.3 * (mine.shortcut_kind != other.shortcut_kind)
        cost += 0.3 * (len(mine.convs) != len(other.convs))
        cost += 0.8 * ((id(mine) in opens) != (id(other) in opens))
        if mine.convs and other.convs:
            cost += 0.6 * min(1.0, abs(log(mine.out / scale / other.out)) / log(2))
            cost += 0.2 * (mine.stride != other.stride)
        return cost

    return [pair for mine, other in rows for pair in align(mine, other, cost, lambda _: 1.5)]


def _stages(units: list[Unit]) -> list[list[Unit]]:
    """Cut where the width changes or the resolution is halved."""
    stages: list[list[Unit]] = []
    for unit in units:
        if not stages or unit.out != stages[-1][-1].out or unit.stride > 1:
            stages.append([])
        stages[-1].append(unit)
    return stages


def common_ratio(units: UnitPairs) -> float:
    """By how much all stages are wider than the reference's, 1 if there is no such number."""
    ratios = [
        [one.settings["out"] / two.settings["out"] for one, two in zip(a.convs, b.convs)]  # noqa: B905
        for a, b in units
        if a is not None and b is not None and len(a.convs) == len(b.convs)
    ]
    all_ratios = {ratio for row in ratios for ratio in row}
    return all_ratios.pop() if len(all_ratios) == 1 and len(ratios) > 1 else 1


def distance(output: Node, sides: SideBySide, reference: Structure) -> float:
    """Convolutions and additions without partner, as a share of all."""
    mine = [n for n in behind([output]) if n.kind in ("conv", "add")]
    other = [n for n in reference.layers if n.kind == "conv"]
    joined = sum(unit.merge is not None for unit in reference.units)
    ratio, partners = common_ratio(sides.units), 0.0
    for x, y in sides.operations:
        if x is not None and y is not None and x.kind == y.kind == "conv":
            one, two = x.settings, y.settings
            wide = one["out"] not in (two["out"], ratio * two["out"])
            odd = (one["kernel"] != two["kernel"]) + (one["groups"] != two["groups"])
            partners += max(0.0, 1 - 0.5 * wide - 0.4 * odd)
    merges = [(x.merge, y.merge) for x, y in sides.units if x and y]
    added = sum(bool(x and y and x.kind == "add" == y.kind) for x, y in merges)
    paths = [x.settings for x, _ in sides.operations if x and x.settings.get("paths")]
    repeated = sum(each["paths"] - 1 + each.get("sums", 0) for each in paths)
    total = len(mine) - repeated + len(other) + joined
    return 1 - 2 * (partners + added) / total if total else 1.0


def _depths(case: Case) -> None:
    have, want = Counter[str](), Counter[str]()
    homes = defaultdict[str, list[str]](list)
    places = [unit.place for unit in case.reference.units] or ["layer1"]
    stage = places[0].partition(".")[0]
    for mine, other in case.units:
        if other is not None:
            stage = other.place.partition(".")[0]
            want[stage] += 1
        if mine is not None:
            have[stage] += 1
            homes[stage].append(case.candidate.name(mine))
    counts = [", ".join(str(side[stage]) for stage in want) for side in (have, want)]
    wrong = [stage for stage in want | have if have[stage] != want[stage]]
    for stage in wrong:
        ends = list(dict.fromkeys([*homes[stage][:1], *homes[stage][-1:]]))
        what = "stages" if len(wrong) > 1 else "stage"
        mine = counts[0] if len(wrong) > 1 else f"{stage} has {plural(have[stage], 'block')}"
        words = {"mine": mine, "one": str(want[stage]), "theirs": counts[1]}
        line = case.found.line_with([have[stage] for stage in want])
        case.found.add("depth", what, " to ".join(ends), stage, line=line, **words)  # type: ignore[arg-type]


class _Block:
    """One block of the candidate beside one of the reference."""

    def __init__(self, mine: Unit, other: Unit, case: Case) -> None:
        self.mine, self.other, self.case = mine, other, case
        self.where = (case.candidate.name(mine), other.place)
        self.branch = mine.branch

    def say(self, kind: str, what: str, node: Node | None = None, **words: Any) -> None:
        node = node or self.mine.merge or next(iter(self.mine.convs), None)
        self.case.found.add(kind, what, *self.where, node=node, **words)

    def lay(self, mine: list[Node], other: list[Node]) -> Pairs:
        """A part of the two blocks side by side, its settings compared."""
        row = lay_side_by_side(mine, other)
        compare_settings(row, mine, self.where, self.case.found, self.case.candidate.style)
        return row

    def compare(self, *, strides: bool) -> Pairs:
        """Report what differs; ``strides``: also where the resolution is halved."""
        mine, other = self.mine, self.other
        kernels = [[n.settings["kernel"] for n in unit.convs] for unit in (mine, other)]
        if sorted(kernels) == [[(1, 1), (3, 3), (1, 1)], [(3, 3), (3, 3)]]:
            words = {2: "basic block of two convolutions", 3: "bottleneck of three convolutions"}
            one, two = (words[len(side)] for side in kernels)
            self.say("block", f"a {one} stands for the reference's {two}.")
            return _alone(mine.layers, other.layers)
        before = self._late_fork()
        if mine.source == "earlier":
            self.say("shortcut-source", "earlier")
        branch = self.lay(self.branch, other.branch)
        joined = mine.merge is not None and mine.merge.kind == "cat"
        if not joined and self.case.ratio == 1:
            compare_widths(branch, self.where, self.case.found)
        halved = self._strides() if strides or mine.stride == other.stride else []
        before_row = self.lay(before, other.before)
        after_row = self.lay(mine.after, other.after)
        shortcut = self._shortcut()
        events = find_events(branch, "branch") + find_events(before_row, "before")
        events += find_events(after_row, "after")
        kinds = (mine.shortcut_kind, other.shortcut_kind)
        if not joined and (kinds[0] == kinds[1] or kinds == ("other", "identity")):
            extra = kinds[0] != kinds[1]  # of an odd shortcut only what it has too much
            events += [e for e in find_events(shortcut, "shortcut") if e.extra or not extra]
        events = [event for event in events if event.node not in halved]
        if not self.case.same_style:
            events = [event for event in events if event.node.kind not in SWALLOWED]
        events = self._patterns(events)
        for event in events:
            event.home, event.where = self.where, _slot(event)
            event.near = mine.merge or next(iter(mine.convs), None)
        self.case.tell(events)
        return before_row + branch + shortcut + after_row

    def _late_fork(self) -> list[Node]:
        """A shortcut that starts behind a convolution; returns what stands before the block."""
        convs = [i for i, node in enumerate(self.mine.before) if node.kind == "conv"]
        if not convs:
            return self.mine.before
        self.branch = self.mine.before[convs[0] :] + self.branch
        self.say("shortcut-source", "late", at=len(convs))
        return self.mine.before[: convs[0]]

    def _strides(self) -> list[Node]:
        """Report strides; returns the pools and filters that halve instead of a convolution."""
        mine, other = self.mine, self.other
        one, two = mine.stride, other.stride
        if one != two:
            strided = [n for n in mine.convs if max(n.settings["stride"]) > 1]
            what = {(1, 2): "forgotten", (2, 1): "needless"}.get((one, two), "other")
            node = (strided or mine.convs or [None])[0]
            self.say("stride", what, node, module=self.where[0], mine=one, theirs=two)
            return []
        if one == 1:
            return []
        halving = [n for n in self.branch if n.kind != "conv" and max(shrinkage(n)) > 1]
        halving = [n for n in halving if n.kind in ("maxpool", "avgpool", "blur", "slice")]
        if halving and not any(n.kind in ("maxpool", "avgpool") for n in other.branch):
            at = next(i for i, n in enumerate(self.branch) if n is halving[0])
            convs = sum(n.kind == "conv" for n in self.branch[:at])
            place = f"after convolution {convs}" if convs else "before the first convolution"
            self.say(
                "stride-by-pooling", "block", halving[0], mine=a(halving[0].words), place=place
            )
            return halving
        places = [[max(n.settings["stride"]) for n in u.convs] for u in (mine, other)]
        if len(places[0]) == len(places[1]) and places[0] != places[1]:
            at = [next(i for i, stride in enumerate(side) if stride > 1) for side in places]
            words = [
                "convolution {} ({}x{})".format(i + 1, *unit.convs[i].settings["kernel"])
                for unit, i in zip((mine, other), at, strict=True)
            ]
            node = mine.convs[at[0]]
            self.say("stride-placement", "other", node, mine=words[0], theirs=words[1])
        return []

    def _shortcut(self) -> Pairs:
        mine, other = self.mine, self.other
        one, two = mine.shortcut_kind, other.shortcut_kind
        left, right = mine.shortcut or [], other.shortcut or []
        if mine.merge is not None and mine.merge.kind != "add":
            text = f"the branch and the shortcut are {MERGES[mine.merge.kind]}, not added."
            joined = mine.merge.kind == "cat"
            self.say("concatenation" if joined else "merge", text)
            if joined:
                return _alone(left, right)
        for node in left if one == "pad" else []:
            if (filled := node.settings.get("filled")) in ("copy", "other"):
                self.say("shortcut-channels", filled, node)
        if one == two == "pad":
            return []
        if one == two or (one == "other" and two == "identity"):
            return self.lay(left, right)
        # The kinds differ, which hides nothing else: a bias before its norm is said all the same.
        self.lay(left, [])
        same_shape = bool(mine.convs) and _shape(mine)[0] == _shape(mine)[1] and mine.stride == 1
        if one == "none":
            self.say("missing-addition", "plain")
        elif two == "none":
            self.say("extra-addition", "shortcut")
        elif "projection" in one and two == "identity":
            if same_shape:
                self.say("needless-projection", "block", left[0])
        elif one == "identity":
            if two != "pad" and mine.stride == other.stride and _shape(mine) == _shape(other):
                self.say("missing-projection", "reference")
        elif not (same_shape and one == "pad"):
            mine_is, theirs = _option(one, left), _option(two, right)
            papers = all(option.startswith(("A,", "B,", "D,")) for option in (mine_is, theirs))
            remedy = "" if papers else f"take the reference's: {theirs}."
            node = (left or [mine.merge])[0]
            self.say("shortcut-option", "other", node, mine=mine_is, theirs=theirs, remedy=remedy)
        return _alone(left, right)

    def _patterns(self, events: list[Event]) -> list[Event]:
        """Report what several events mean together; returns the others."""
        for event in [e for e in events if e.node.kind == "conv"]:  # its norm and ReLU go with it
            for kind in SWALLOWED:
                if companion := _take(events, event.extra, kind, event.slot):
                    events.remove(companion)
        events = self._moved_fork(events)
        events = self._early_relu(events)
        for gained in [
            e for e in events if e.extra and e.slot == "after" and e.node.kind == "norm"
        ]:
            if lost := _take(events, False, "norm", "branch"):
                events = [e for e in events if e not in (lost, gained)]
                line = gained.node.location  # of the sum, not of the norm's constructor
                self.say("norm-after-addition", "after", gained.node, line=line)
        return self._swapped(events)

    def _moved_fork(self, events: list[Event]) -> list[Event]:
        """In the order of 2016: norm and ReLU on the other side of the fork."""
        sides = {"before": "after", "branch": "before"}
        for mine, other in (("before", "branch"), ("branch", "before")):
            for kind in ("norm", "relu"):  # ReLU alone where batch norm is missing
                lost = _take(events, False, kind, other, 0) or _take(events, False, kind, other)
                gained = _take(events, True, kind, mine, 0)
                if not (lost and gained and "before" in (lost.slot, gained.slot)):
                    continue
                moved = [lost, gained]
                if kind == "norm":
                    moved += [
                        _take(events, False, "relu", other),
                        _take(events, True, "relu", mine),
                    ]  # type: ignore[list-item]
                events = [event for event in events if event not in moved]
                self.say("shortcut-source", "fork", mine=sides[mine], theirs=sides[other])
        return events

    def _early_relu(self, events: list[Event]) -> list[Event]:
        late = _take(events, True, "relu", "branch")
        if not late or not late.last:
            return events
        missing = _take(events, False, "relu", "after")
        # One ReLU may serve the whole network: then the convolution before it tells the place.
        layers = self.case.candidate.layers
        shared = not late.node.direct and sum(n.place == late.node.place for n in layers) > 1
        node = self.mine.convs[-1] if shared else late.node
        self.say("relu-before-addition", "moved" if missing else "more", node)
        return [event for event in events if event not in (late, missing)]

    def _swapped(self, events: list[Event]) -> list[Event]:
        """The same operation at another place of the branch."""
        for kind in ("relu", "norm"):
            for gained in [e for e in events if e.extra and e.node.kind == kind]:
                lost = _take(events, False, kind, gained.slot, gained.position)
                near = gained.position
                if lost is None and gained.slot in ("branch", "shortcut") and kind == "norm":
                    lost = _take(events, False, kind, gained.slot, near + 1)
                if lost is None:
                    continue
                events = [event for event in events if event not in (lost, gained)]
                what = "swapped" if lost.position == near else "norm first"
                self.say("order", what, gained.node, at=near)
        return events


def _take(
    events: list[Event], extra: bool, kind: str, slot: str, position: int | None = None
) -> Event | None:
    for event in events:
        if (event.extra, event.node.kind, event.slot) == (extra, kind, slot) and (
            position in (None, event.position)
        ):
            return event
    return None


def _slot(event: Event) -> str:
    if event.slot == "shortcut":
        return "on the shortcut"
    if event.slot == "after":
        return "after the addition"
    if event.slot == "before" or event.position == 0:
        return "before the first convolution of the block"
    return f"after convolution {event.position} of the block"


def _option(kind: str, shortcut: list[Node]) -> str:
    """A shortcut in the letters of the paper where it is one of its options."""
    convs = [node for node in shortcut if node.kind == "conv"]
    if any(node.settings.get("filled") in ("copy", "other") for node in shortcut):
        return "A, but without its zeros"
    if convs and (len(convs) > 1 or convs[0].settings["kernel"] != (1, 1)):
        kernels = " and ".join("{}x{}".format(*node.settings["kernel"]) for node in convs)
        return f"a {kernels} convolution"
    words = {"pad": "A, zero padding", "projection": "B, a 1x1 convolution", "identity": "identity"}
    words["pooled projection"] = "D, average pooling and a 1x1 convolution"
    return words.get(kind) or " and ".join(dict.fromkeys(a(node.words) for node in shortcut))


def _shape(unit: Unit) -> tuple[int, int]:
    return unit.convs[0].settings["in"], unit.convs[-1].settings["out"]
