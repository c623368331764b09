"""Two structures side by side: every operation that differs, said in terms of blocks."""

from __future__ import annotations

from collections import Counter

from resnetlab.comparison.align import align
from resnetlab.comparison.ends import compare_heads, compare_stems
from resnetlab.comparison.events import (
    SWALLOWED,
    find_events,
    lay_side_by_side,
    report_event,
    report_patterns,
)
from resnetlab.comparison.findings import Findings
from resnetlab.comparison.operations import Node
from resnetlab.comparison.settings import NAMES, Pairs, compare_settings, compare_widths
from resnetlab.comparison.structure import Structure, unit_layers
from resnetlab.comparison.trunk import MERGES, Unit


def compare_structures(theirs: Structure, ours: Structure, found: Findings) -> Pairs:
    """Report how ``theirs`` differs from ``ours``; returns the operations laid side by side."""
    same_style = theirs.style == ours.style or not theirs.units
    if not same_style:
        after, before = "ReLU after the addition (2015)", "batch norm and ReLU first (2016)"
        found.add(
            "activation-order",
            f"the blocks have {before if theirs.style == 'pre' else after}, the reference has "
            f"{before if ours.style == 'pre' else after}.",
            "take the other kind of block, or the reference of the same order.",
            theirs.units[0].place,
            ours.units[0].place,
        )
    pairs = compare_stems(theirs, ours, found, same_style)
    units = align(theirs.units, ours.units, _unit_cost, lambda unit: 1.5)
    pairs += _units(units, theirs, found, same_style)
    return pairs + compare_heads(theirs, ours, found, same_style)


def _unit_cost(theirs: Unit, ours: Unit) -> float:
    cost = 0.6 * (theirs.shortcut_kind != ours.shortcut_kind)
    cost += 0.7 * (len(theirs.convs) != len(ours.convs))
    if theirs.convs and ours.convs:
        cost += 0.6 * (theirs.convs[-1].settings["out"] != ours.convs[-1].settings["out"])
        cost += 0.3 * (_stride(theirs.convs) != _stride(ours.convs))
    return cost


def _stride(nodes: list[Node]) -> int:
    stride = 1
    for node in nodes:
        stride *= max(node.settings.get("stride") or (1,))
    return stride


def _units(
    units: list[tuple[Unit | None, Unit | None]],
    all_theirs: Structure,
    found: Findings,
    style: bool,
) -> Pairs:
    pairs: Pairs = []
    stage, have, want = "", Counter[str](), Counter[str]()
    homes: dict[str, list[str]] = {}
    for theirs, ours in units:
        if ours is not None:
            stage = ours.place.split(".")[0] or stage
            want[stage] += 1
        if theirs is not None:
            have[stage or "layer1"] += 1
            homes.setdefault(stage or "layer1", []).append(unit_name(theirs, all_theirs))
        if theirs is not None and ours is not None:
            name = unit_name(theirs, all_theirs)
            pairs += _unit(theirs, ours, name, found, style, all_theirs.style)
        else:
            pairs += [(node, None) for node in (unit_layers(theirs) if theirs else [])]
            pairs += [(None, node) for node in (unit_layers(ours) if ours else [])]
    for stage in want | have:
        if have[stage] != want[stage]:
            home = homes.get(stage, [])
            found.add(
                "depth",
                f"{stage} has {have[stage]} blocks, the reference has {want[stage]}.",
                f"build {want[stage]} blocks there; the reference's depths are "
                f"{', '.join(str(want[key]) for key in sorted(want))}.",
                f"{home[0]} to {home[-1]}" if home else "",
                stage,
            )
    return pairs


def unit_name(unit: Unit, structure: Structure) -> str:
    """A unit's module path; its number and convolutions where no module holds it alone."""
    place = unit.place
    alone = sum(other.place.startswith(place) for other in structure.units) == 1
    if place and (alone or sum(other.place == place for other in structure.units) == 1):
        return place
    number = structure.units.index(unit) + 1
    convs = [node.label for node in unit.convs]
    return f"block {number} ({convs[0]} to {convs[-1]})" if convs else f"block {number}"


def _unit(
    theirs: Unit, ours: Unit, name: str, found: Findings, same_style: bool, style: str
) -> Pairs:
    where = (name, ours.place)
    branch = theirs.branch
    kernels = [[n.settings["kernel"] for n in unit.convs] for unit in (theirs, ours)]
    if sorted(kernels) == [[(1, 1), (3, 3), (1, 1)], [(3, 3), (3, 3)]]:
        kinds = {2: "basic block of two convolutions", 3: "bottleneck of three convolutions"}
        mine, other = (kinds[len(side)] for side in kernels)
        remedy = "18 and 34 layers have basic blocks, 50 and more bottlenecks."
        found.add("block", f"a {mine} stands for the reference's {other}.", remedy, *where)
        return [*((n, None) for n in unit_layers(theirs)), *((None, n) for n in unit_layers(ours))]
    early = [i for i, node in enumerate(theirs.before) if node.kind == "conv"]
    if early:
        branch = theirs.before[early[0] :] + branch
        found.add(
            "shortcut-source",
            f"the shortcut starts after convolution {len(early)} of the block, not at its input.",
            "keep the block's input (identity = x) before its first convolution.",
            *where,
        )
    row = lay_side_by_side(branch, ours.branch)
    compare_settings(row, branch, name, ours.place, found, style)
    joined = theirs.merge is not None and theirs.merge.kind == "cat"
    if not joined:
        compare_widths(row, where, found)
    convs = ([n for n in branch if n.kind == "conv"], ours.convs)
    changed = _strides(*convs, where, found)
    events = find_events(row, "branch", branch)
    before = lay_side_by_side(theirs.before[: early[0]] if early else theirs.before, ours.before)
    after = lay_side_by_side(theirs.after, ours.after)
    compare_settings(after, theirs.after, name, ours.place, found, style)
    events += find_events(before, "before", theirs.before) + find_events(
        after, "after", theirs.after
    )
    shortcut = _shortcut(theirs, ours, where, found, changed, style)
    events += find_events(shortcut, "shortcut", theirs.shortcut or [])
    if joined:
        events = [event for event in events if event.slot != "shortcut"]
    elif theirs.shortcut_kind != ours.shortcut_kind:
        events = [event for event in events if event.slot != "shortcut" or event.extra]
        kinds = (theirs.shortcut_kind, ours.shortcut_kind)
        if kinds != ("other", "identity"):
            events = [event for event in events if event.slot != "shortcut"]
    if not same_style:
        events = [event for event in events if event.node.kind not in SWALLOWED]
    for event in report_patterns(events, where, found):
        report_event(event, where, found)
    return before + row + shortcut + after


def _strides(theirs: list[Node], ours: list[Node], where: tuple[str, str], found: Findings) -> bool:
    """Report strides; whether the two blocks change the resolution differently."""
    mine, other = _stride(theirs), _stride(ours)
    if mine != other:
        text = "forgets to halve the resolution" if mine < other else "halves it needlessly"
        text = text if {mine, other} == {1, 2} else "changes the resolution otherwise"
        found.add(
            "stride",
            f"the block {text}: stride {mine}, the reference's is {other}.",
            "the first block of every stage but the first has stride 2, all others 1.",
            *where,
        )
    elif mine > 1 and len(theirs) == len(ours):
        places = [[max(n.settings["stride"]) for n in side] for side in (theirs, ours)]
        if places[0] != places[1]:
            at = [next(i for i, stride in enumerate(side) if stride > 1) for side in places]
            kernels = [
                "{}x{}".format(*side[i].settings["kernel"])
                for side, i in zip((theirs, ours), at, strict=True)
            ]
            found.add(
                "stride-placement",
                f"the stride is on convolution {at[0] + 1} ({kernels[0]}), the reference has it on "
                f"convolution {at[1] + 1} ({kernels[1]}).",
                "bottlenecks: v1 (the paper, resnet50_v1) has it on the first 1x1, v1.5 "
                "(torchvision, resnet50) on the 3x3; basic blocks on the first 3x3.",
                *where,
            )
    return mine != other


def _shortcut(
    theirs: Unit,
    ours: Unit,
    where: tuple[str, str],
    found: Findings,
    strides_differ: bool,
    style: str,
) -> Pairs:
    mine, other = theirs.shortcut_kind, ours.shortcut_kind
    left, right = theirs.shortcut or [], ours.shortcut or []
    unmatched: Pairs = [*((node, None) for node in left), *((None, node) for node in right)]
    if theirs.merge is not None and theirs.merge.kind != "add":
        words = MERGES[theirs.merge.kind]
        found.add(
            "concatenation" if theirs.merge.kind == "cat" else "merge",
            f"the branch and the shortcut are {words}, not added.",
            "add them: branch + shortcut (concatenation is DenseNet's, a product is Highway's).",
            *where,
        )
        if theirs.merge.kind == "cat" or mine != other:
            return unmatched
    if mine == other == "pad":
        return []
    if mine == other or (mine == "other" and other == "identity"):
        row = lay_side_by_side(left, right)
        compare_settings(row, left, where[0], where[1], found, style)
        return row
    if "none" in (mine, other):
        kind = "missing-addition" if mine == "none" else "extra-addition"
        text = (
            "the block adds no shortcut to its branch: it is a plain block."
            if mine == "none"
            else "the block adds a shortcut; the reference is a plain network."
        )
        found.add(kind, text, "out = branch(x) + shortcut(x), then ReLU.", *where)
        return unmatched
    first, last = theirs.convs[0].settings, theirs.convs[-1].settings
    same_shape = first["in"] == last["out"] and _stride(theirs.convs) == 1
    if "projection" in mine and other == "identity":
        if same_shape:
            found.add(
                "needless-projection",
                "the shortcut is a projection though the block keeps the shape; the reference has "
                "an identity.",
                "project only where channels or resolution change (the paper's option B; "
                "projections everywhere are its option C).",
                *where,
            )
    elif mine == "identity":
        if other != "pad" and not strides_differ and _shape(theirs) == _shape(ours):
            found.add(
                "missing-projection",
                "the shortcut is an identity, the reference has a projection.",
                "project with a 1x1 convolution and batch norm.",
                *where,
            )
    else:
        words = {"pad": "A, zero padding", "projection": "B, a 1x1 convolution"}
        words["pooled projection"] = "D, average pooling and a 1x1 convolution"
        operations = " and ".join(dict.fromkeys(NAMES.get(n.kind, n.kind) for n in left))
        remedy = (
            "take the reference's: option A takes every second pixel and pads with zero channels."
        )
        if mine in words:
            remedy = (
                "options A and B are both the paper's: take the reference's, or compare without "
                "--to."
            )
        found.add(
            "shortcut-option",
            f"the shortcut is {words.get(mine, operations)}; the reference's is "
            f"{words.get(other, other)}.",
            remedy,
            *where,
        )
    return unmatched


def _shape(unit: Unit) -> tuple[int, int]:
    return unit.convs[0].settings["in"], unit.convs[-1].settings["out"]
