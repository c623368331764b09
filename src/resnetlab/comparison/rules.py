"""Two structures side by side: each difference found by one rule, said in terms of blocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import log

from resnetlab.comparison.ends import compare_heads, compare_stems
from resnetlab.comparison.kinds import Findings, plural
from resnetlab.comparison.layers import (
    STEMS,
    SWALLOWED,
    Event,
    Pairs,
    a,
    align,
    compare_settings,
    compare_widths,
    find_events,
    lay_side_by_side,
)
from resnetlab.comparison.operations import Node, adds_itself, shrinkage
from resnetlab.comparison.structure import MERGES, Structure, Unit

UnitPairs = list[tuple[Unit | None, Unit | None]]


@dataclass
class SideBySide:
    """What two structures have in common: blocks and operations in pairs."""

    units: UnitPairs
    operations: Pairs


def compare_structures(candidate: Structure, reference: Structure, found: Findings) -> SideBySide:
    """Report how ``candidate`` differs from ``reference``."""
    same_style = candidate.style == reference.style or not candidate.units
    if not same_style:
        post, pre = "ReLU after the addition (2015)", "batch norm and ReLU first (2016)"
        words = {"post": post, "pre": pre}
        text = f"the blocks have {words[candidate.style]}, the reference has "
        text += f"{words[reference.style]}."
        places = (candidate.units[0].place, reference.units[0].place)
        found.add("activation-order", text, *places)
    units = pair_units(candidate, reference)
    ratio = common_ratio(units)
    if ratio != 1:
        text = f"every stage is {ratio:g} times as wide as the reference's."
        outs = ", ".join(map(str, dict.fromkeys(unit.out for unit in reference.units)))
        first = candidate.units[0]
        found.add("width", text, candidate.name(first), remedy=f"stages of {outs} channels.")
    pairs = compare_stems(candidate, reference, found, same_style, ratio)
    _depths(units, candidate, reference, found)
    for mine, other in units:
        if mine is not None and other is not None:
            pairs += _Block(mine, other, candidate, same_style, ratio, found).compare()
        else:
            pairs += [(node, None) for node in (mine.layers if mine else [])]
            pairs += [(None, node) for node in (other.layers if other else [])]
    pairs += compare_heads(candidate, reference, found, same_style)
    return SideBySide(units, pairs)


def pair_units(candidate: Structure, reference: Structure) -> UnitPairs:
    """Blocks laid side by side: first of a stage with first of a stage, widths by their ratio."""
    sides = [[unit.out or 1 for unit in side.units] for side in (candidate, reference)]
    scale = min(sides[0], default=1) / min(sides[1], default=1)
    opens = {
        id(unit): i == 0 or unit.out != side.units[i - 1].out or unit.stride > 1
        for side in (candidate, reference)
        for i, unit in enumerate(side.units)
    }

    def cost(mine: Unit, other: Unit) -> float:
        cost = 0.3 * (mine.shortcut_kind != other.shortcut_kind)
        cost += 0.3 * (len(mine.convs) != len(other.convs))
        cost += 0.8 * (opens[id(mine)] != opens[id(other)])
        if mine.convs and other.convs:
            cost += 0.6 * min(1.0, abs(log(mine.out / scale / other.out)) / log(2))
            cost += 0.2 * (mine.stride != other.stride)
        return cost

    return align(candidate.units, reference.units, cost, lambda unit: 1.5)


def common_ratio(units: UnitPairs) -> float:
    """By how much all stages are wider than the reference's, 1 if there is no such number."""
    ratios = [
        [one.settings["out"] / two.settings["out"] for one, two in zip(a.convs, b.convs)]  # noqa: B905
        for a, b in units
        if a is not None and b is not None and len(a.convs) == len(b.convs)
    ]
    all_ratios = {ratio for row in ratios for ratio in row}
    return all_ratios.pop() if len(all_ratios) == 1 and len(ratios) > 1 else 1


def _depths(units: UnitPairs, candidate: Structure, reference: Structure, found: Findings) -> None:
    have, want = Counter[str](), Counter[str]()
    homes: dict[str, list[Unit]] = {}
    stage = reference.units[0].place.partition(".")[0] if reference.units else "layer1"
    for mine, other in units:
        if other is not None:
            stage = other.place.partition(".")[0]
            want[stage] += 1
        if mine is not None:
            have[stage] += 1
            homes.setdefault(stage, []).append(mine)
    wrong = [stage for stage in want | have if have[stage] != want[stage]]
    if not wrong:
        return
    right = f"the reference's depths are {', '.join(str(count) for count in want.values())}."
    if len(wrong) > 1:
        counts = [", ".join(str(side[s]) for s in want) for side in (have, want)]
        text = f"the stages have {counts[0]} blocks, the reference's {counts[1]}."
    else:
        stage = wrong[0]
        text = f"{stage} has {plural(have[stage], 'block')}, the reference has {want[stage]}."
    for stage in wrong:
        names = [candidate.name(unit) for unit in homes.get(stage, [])]
        place = f"{names[0]} to {names[-1]}" if len(set(names)) > 1 else "".join(names[:1])
        found.add("depth", text, place, stage, remedy=right)


class _Block:
    """One block of the candidate beside one of the reference."""

    def __init__(
        self,
        mine: Unit,
        other: Unit,
        candidate: Structure,
        same_style: bool,
        ratio: float,
        found: Findings,
    ) -> None:
        self.mine, self.other, self.found, self.ratio = mine, other, found, ratio
        self.same_style, self.style = same_style, candidate.style
        self.where = (candidate.name(mine), other.place)
        self.branch = mine.branch

    def say(self, kind: str, text: str, node: Node | None = None, remedy: str = "") -> None:
        node = node or self.mine.merge or next(iter(self.mine.convs), None)
        self.found.add(kind, text, *self.where, node=node, remedy=remedy)

    def compare(self) -> Pairs:
        mine, other = self.mine, self.other
        kernels = [[n.settings["kernel"] for n in unit.convs] for unit in (mine, other)]
        if sorted(kernels) == [[(1, 1), (3, 3), (1, 1)], [(3, 3), (3, 3)]]:
            words = {2: "basic block of two convolutions", 3: "bottleneck of three convolutions"}
            one, two = (words[len(side)] for side in kernels)
            self.say("block", f"a {one} stands for the reference's {two}.")
            alone: Pairs = [(node, None) for node in mine.layers]
            alone += [(None, node) for node in other.layers]
            return alone
        before = self._late_fork()
        branch = lay_side_by_side(self.branch, other.branch)
        compare_settings(branch, self.branch, self.where, self.found, self.style)
        joined = mine.merge is not None and mine.merge.kind == "cat"
        if not joined and self.ratio == 1:
            compare_widths(branch, self.where, self.found)
        halved = self._strides()
        before_row = lay_side_by_side(before, other.before)
        after_row = lay_side_by_side(mine.after, other.after)
        compare_settings(before_row, before, self.where, self.found, self.style)
        compare_settings(after_row, mine.after, self.where, self.found, self.style)
        shortcut = self._shortcut()
        events = find_events(branch, "branch") + find_events(before_row, "before")
        events += find_events(after_row, "after")
        kinds = (mine.shortcut_kind, other.shortcut_kind)
        if not joined and (kinds[0] == kinds[1] or kinds == ("other", "identity")):
            extra = kinds[0] != kinds[1]  # of an odd shortcut only what it has too much
            events += [e for e in find_events(shortcut, "shortcut") if e.extra or not extra]
        events = [event for event in events if event.node not in halved]
        if not self.same_style:
            events = [event for event in events if event.node.kind not in SWALLOWED]
        for event in self._patterns(events):
            self._event(event)
        return before_row + branch + shortcut + after_row

    def _late_fork(self) -> list[Node]:
        """A shortcut that starts behind a convolution; returns what stands before the block."""
        convs = [i for i, node in enumerate(self.mine.before) if node.kind == "conv"]
        if not convs:
            return self.mine.before
        self.branch = self.mine.before[convs[0] :] + self.branch
        after = f"after convolution {len(convs)} of the block"
        self.say("shortcut-source", f"the shortcut starts {after}, not at its input.")
        return self.mine.before[: convs[0]]

    def _strides(self) -> list[Node]:
        """Report strides; returns the pools and filters that halve instead of a convolution."""
        mine, other = self.mine, self.other
        one, two = mine.stride, other.stride
        if one != two:
            strided = [n for n in mine.convs if max(n.settings["stride"]) > 1]
            text = "changes the resolution otherwise"
            if {one, two} == {1, 2}:
                text = "forgets to halve the resolution" if one < two else "halves it needlessly"
            text = f"the block {text}: stride {one}, the reference's is {two}."
            self.say("stride", text, (strided or mine.convs or [None])[0])
            return []
        if one == 1:
            return []
        halving = [n for n in self.branch if n.kind != "conv" and max(shrinkage(n)) > 1]
        halving = [n for n in halving if n.kind in ("maxpool", "avgpool", "blur", "slice")]
        if halving and not any(n.kind in ("maxpool", "avgpool") for n in other.branch):
            at = next(i for i, n in enumerate(self.branch) if n is halving[0])
            convs = sum(n.kind == "conv" for n in self.branch[:at])
            place = f"after convolution {convs}" if convs else "before the first convolution"
            text = f"{a(halving[0].words)} {place} of the block halves the resolution, the "
            text += "reference's convolution has stride 2."
            self.say("stride-by-pooling", text, halving[0])
            return halving
        places = [[max(n.settings["stride"]) for n in u.convs] for u in (mine, other)]
        if len(places[0]) == len(places[1]) and places[0] != places[1]:
            at = [next(i for i, stride in enumerate(side) if stride > 1) for side in places]
            kernels = [
                "{}x{}".format(*unit.convs[i].settings["kernel"])
                for unit, i in zip((mine, other), at, strict=True)
            ]
            text = f"the stride is on convolution {at[0] + 1} ({kernels[0]}), the reference has it "
            text += f"on convolution {at[1] + 1} ({kernels[1]})."
            self.say("stride-placement", text, mine.convs[at[0]])
        return []

    def _shortcut(self) -> Pairs:
        mine, other = self.mine, self.other
        one, two = mine.shortcut_kind, other.shortcut_kind
        left, right = mine.shortcut or [], other.shortcut or []
        joined = mine.merge is not None and mine.merge.kind != "add"
        if joined:
            assert mine.merge is not None
            text = f"the branch and the shortcut are {MERGES[mine.merge.kind]}, not added."
            self.say("concatenation" if mine.merge.kind == "cat" else "merge", text)
            if mine.merge.kind == "cat":
                return [*((node, None) for node in left), *((None, node) for node in right)]
        if one == two == "pad":
            return []
        if one == two or (one == "other" and two == "identity"):
            row = lay_side_by_side(left, right)
            compare_settings(row, left, self.where, self.found, self.style)
            return row
        # The kinds differ, which hides nothing else: a bias before its norm is said all the same.
        alone: Pairs = [*((node, None) for node in left), *((None, node) for node in right)]
        compare_settings([], left, self.where, self.found, self.style)
        if "none" in (one, two):
            text = "the block adds no shortcut to its branch: it is a plain block."
            if two == "none":
                text = "the block adds a shortcut; the reference is a plain network."
            self.say("missing-addition" if one == "none" else "extra-addition", text)
            return alone
        same_shape = bool(mine.convs) and _shape(mine)[0] == _shape(mine)[1] and mine.stride == 1
        if "projection" in one and two == "identity":
            if same_shape:
                text = "the shortcut is a projection though the block keeps the shape; the "
                text += "reference has an identity."
                self.say("needless-projection", text, left[0])
        elif one == "identity":
            if two != "pad" and mine.stride == other.stride and _shape(mine) == _shape(other):
                text = "the shortcut is an identity, the reference has a projection."
                self.say("missing-projection", text)
        elif not (same_shape and one == "pad"):
            options = [_option(kind, nodes) for kind, nodes in ((one, left), (two, right))]
            text = f"the shortcut is {options[0]}; the reference's is {options[1]}."
            papers = all(option.startswith(("A,", "B,", "D,")) for option in options)
            remedy = "" if papers else f"take the reference's: {options[1]}."
            self.say("shortcut-option", text, (left or [mine.merge])[0], remedy)
        return alone

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
                text = "batch norm stands after the addition instead of at the end of the branch."
                self.say("norm-after-addition", text, gained.node)
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
                text = f"the shortcut starts {sides[mine]} the block's first batch norm and ReLU, "
                text += f"the reference's {sides[other]} them."
                remedy = "paper 2 activates before the split in the net's first block and where a "
                remedy += "block projects, and after it in all others."
                self.say("shortcut-source", text, remedy=remedy)
        return events

    def _early_relu(self, events: list[Event]) -> list[Event]:
        late = _take(events, True, "relu", "branch")
        if not late or not late.last:
            return events
        missing = _take(events, False, "relu", "after")
        text = "the branch ends with a ReLU before the addition"
        text += ", and there is none after it." if missing else ", which makes it add only."
        self.say("relu-before-addition", text, late.node)
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
                text = f"batch norm and ReLU after convolution {near} of the block stand in the "
                text += "other order."
                if lost.position != near:
                    text = "batch norm stands before its convolution, not after it."
                self.say("order", text, gained.node)
        return events

    def _event(self, event: Event) -> None:
        node, words = event.node, event.node.words
        if adds_itself(node):
            words = "sum of a tensor with itself"
        stem = STEMS.get(node.kind)
        if event.extra:
            label = f"extra-{stem}" if stem else "extra-operation"
            if node.kind in ("conv", "linear"):
                label = "extra-layer"
            label = node.kind if node.kind == "extra-addition" else label
            text = f"there is {a(words)} {_slot(event)} that the reference does not have."
            place, remedy = node.label or self.where[0], f"remove the {words}."
            self.found.add(label, text, place, self.where[1], remedy=remedy, node=node)
        else:
            label = f"missing-{stem}" if stem else "missing-layer"
            text = f"there is no {words} {_slot(event)}."
            self.say(label, text, remedy=f"the reference has {a(words)} there.")


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
    if convs and (len(convs) > 1 or convs[0].settings["kernel"] != (1, 1)):
        kernels = " and ".join("{}x{}".format(*node.settings["kernel"]) for node in convs)
        return f"a {kernels} convolution"
    words = {"pad": "A, zero padding", "projection": "B, a 1x1 convolution", "identity": "identity"}
    words["pooled projection"] = "D, average pooling and a 1x1 convolution"
    return words.get(kind) or " and ".join(dict.fromkeys(a(node.words) for node in shortcut))


def _shape(unit: Unit) -> tuple[int, int]:
    return unit.convs[0].settings["in"], unit.convs[-1].settings["out"]
