"""Two rows of operations side by side: which belong together, and which settings differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from resnetlab.comparison.kinds import Findings
from resnetlab.comparison.operations import Node
from resnetlab.comparison.structure import POOLS

Pairs = list[tuple[Node | None, Node | None]]
"""(candidate, reference) of every operation, in order"""
T = TypeVar("T")
SWALLOWED = ("norm", "relu", "act")
"""Operations that go with a convolution, and whose place the order of a block decides."""
STEMS = {"relu": "relu", "act": "relu", "norm": "norm", "maxpool": "max-pool"}
"""How the names of kinds end: missing-relu, extra-norm."""


def align(
    candidate: Sequence[T],
    reference: Sequence[T],
    cost: Callable[[T, T], float],
    gap: Callable[[T], float],
) -> list[tuple[T | None, T | None]]:
    """Pairs in order at the least cost (Needleman and Wunsch, 1970); None where one has nothing."""
    rows, columns = len(candidate) + 1, len(reference) + 1
    best = [[0.0] * columns for _ in range(rows)]
    for i in range(1, rows):
        best[i][0] = best[i - 1][0] + gap(candidate[i - 1])
    for j in range(1, columns):
        best[0][j] = best[0][j - 1] + gap(reference[j - 1])
    for i in range(1, rows):
        for j in range(1, columns):
            best[i][j] = min(
                best[i - 1][j - 1] + cost(candidate[i - 1], reference[j - 1]),
                best[i - 1][j] + gap(candidate[i - 1]),
                best[i][j - 1] + gap(reference[j - 1]),
            )
    pairs: list[tuple[T | None, T | None]] = []
    i, j = rows - 1, columns - 1
    while i or j:
        here = best[i][j]
        if i and here == best[i - 1][j] + gap(candidate[i - 1]):
            i -= 1  # what is left over comes last, so that the first stay with the first
            pairs.append((candidate[i], None))
        elif j and here == best[i][j - 1] + gap(reference[j - 1]):
            j -= 1
            pairs.append((None, reference[j]))
        else:
            i, j = i - 1, j - 1
            pairs.append((candidate[i], reference[j]))
    return pairs[::-1]


def lay_side_by_side(candidate: list[Node], reference: list[Node]) -> Pairs:
    return align(candidate, reference, _node_cost, lambda node: 1.5 if node.kind == "conv" else 1.0)


def _node_cost(candidate: Node, reference: Node) -> float:
    a, b = candidate.settings, reference.settings
    kinds = {candidate.kind, reference.kind}
    if kinds == {"conv"}:
        return sum(0.3 for key in ("kernel", "out", "stride") if a[key] != b[key])
    if len(kinds) == 1:
        return 0.3 if kinds == {"linear"} and a["out"] != b["out"] else 0.0
    if kinds <= set(POOLS):
        return 1.2
    return 0.5 if kinds in ({"relu", "act"}, {"conv", "linear"}) else 100.0


@dataclass
class Event:
    """An operation that only one side has, and after how many convolutions of its row."""

    extra: bool
    node: Node
    slot: str
    """stem, before, branch, shortcut, after, or head"""
    position: int
    last: bool = False
    """nothing follows in its row"""


def find_events(row: Pairs, slot: str) -> list[Event]:
    events, convs = [], 0
    own = [a for a, _ in row if a is not None]
    for mine, other in row:
        convs += other is not None and other.kind == "conv"
        if mine is None and other is not None:
            events.append(Event(False, other, slot, convs))
        elif other is None and mine is not None:
            events.append(Event(True, mine, slot, convs, mine is own[-1]))
    return events


def a(words: str) -> str:
    """With its article."""
    return f"{'an' if words[0] in 'aeiouAEIO' else 'a'} {words}"


def compare_widths(
    row: Pairs, where: tuple[str, str], found: Findings, home: str = "the block"
) -> None:
    wrong = [
        (mine, mine.settings["out"], other.settings["out"])
        for mine, other in row
        if mine and other and mine.kind == other.kind == "conv"
        if mine.settings["out"] != other.settings["out"]
    ]
    if wrong:
        sizes = [row[1:] for row in wrong]
        sizes = sizes[:1] if len(set(sizes)) == 1 else sizes
        mine, other = (", ".join(str(n) for n in side) for side in zip(*sizes, strict=True))
        text = f"convolutions of {home} give {mine} channels, the reference's give {other}."
        remedy = f"give them {other} channels."
        found.add("width", text, *where, remedy=remedy, node=wrong[0][0])


def compare_settings(
    row: Pairs, candidate: list[Node], home: tuple[str, str], found: Findings, style: str
) -> None:
    """Report the settings of operations that both sides have, and biases that norms take away.

    ``home``: (what to call the row, place in the reference). ``style``: see ``Structure``.
    """
    followers = {id(a): b.kind for a, b in pairwise(candidate)}
    partners = {id(mine): other for mine, other in row if mine is not None}
    for mine in candidate:
        other = partners.get(id(mine))
        where = (mine.label or home[0], other.place if other else home[1])
        if "axes" in mine.settings:
            _axes(mine, where, found)
        if mine.kind == "conv":
            _bias(mine, other, followers.get(id(mine)), where, found, style)
        if other is None:
            continue
        if mine.kind == other.kind == "conv":
            _conv_settings(mine, other, where, found)
        elif mine.kind == other.kind == "norm":
            _norm_settings(mine, where, found)
        elif mine.kind == "act" and other.kind == "relu":
            text = f"the activation is {mine.words}, the reference's is ReLU."
            found.add("activation", text, *where, node=mine)
        elif other.kind == "maxpool" and mine.kind in POOLS:
            _pool_settings(mine, other, where, found)
        elif other.kind == "globalpool" and mine.kind != "globalpool":
            if mine.kind in ("avgpool", "mean") and mine.shape[2:] == (1, 1):
                continue
            size = "x".join(str(n) for n in mine.shape[2:]) or "1x1"
            text = f"the last pooling is {a(mine.words)} to {size}; the reference averages over "
            found.add("pooling", f"{text}the whole map.", *where, node=mine)
        elif other.kind == "linear" and mine.kind in ("linear", "conv"):
            _classifier(mine, other, where, found)


def _axes(node: Node, where: tuple[str, str], found: Findings) -> None:
    swapped = node.settings["axes"] == (0, 1, 3, 2)
    what = "height and width are swapped" if swapped else "the axes of the map are in another order"
    text = f"{what} before {a(node.words)}, which reads rows as columns."
    remedy = "remove the transpose or permute before it."
    found.add("function", text, *where, node=node, remedy=remedy)


def _bias(
    node: Node,
    other: Node | None,
    follower: str | None,
    where: tuple[str, str],
    found: Findings,
    style: str,
) -> None:
    if not node.settings["bias"] or node.settings["transposed"]:
        return
    normed = follower == "norm" or (style == "pre" and follower in (None, "relu", "act"))
    if normed:
        text = (
            "a bias stands in front of batch norm, which takes it away again: {amount} needless "
            "{amount:parameter}."
        )
        found.add("bias-before-norm", text, *where, node=node, amount=node.settings["out"])
    elif other is not None and not other.settings.get("bias"):
        text = "the convolution has a bias, the reference's has none: {amount} {amount:parameter}."
        found.add("extra-bias", text, *where, node=node, amount=node.settings["out"])


def _conv_settings(mine: Node, other: Node, where: tuple[str, str], found: Findings) -> None:
    one, two = mine.settings, other.settings
    if one["kernel"] != two["kernel"]:
        words = ["{}x{}".format(*side["kernel"]) for side in (one, two)]
        text = f"the convolution is {words[0]}, the reference's is {words[1]}."
        remedy = f"take a {words[1]} convolution."
        found.add("kernel", text, *where, remedy=remedy, node=mine)
    for key in ("dilation", "groups"):
        if one[key] != two[key]:
            text = (
                f"the convolution has {key} {_by(one[key])}, the reference's has {_by(two[key])}."
            )
            found.add(key, text, *where, remedy=f"{key}={_plain(two[key])}.", node=mine)
    if one["transposed"]:
        found.add("transposed", "the convolution is a transposed one.", *where, node=mine)
    fits = [
        tuple(2 * p - d * (k - 1) for p, k, d in zip(*values, strict=True))
        for values in ((s["padding"], s["kernel"], s["dilation"]) for s in (one, two))
        if len(values[0]) == 2
    ]
    if len(fits) < 2 or fits[0] != fits[1]:
        text = f"the convolution has padding {_by(one['padding'])}, the reference's has "
        text += f"{_by(two['padding'])}."
        found.add("padding", text, *where, remedy=f"padding={_plain(two['padding'])}.", node=mine)
    if mode := one.get("padding mode"):
        text = f"the convolution pads by {mode} values, the reference's with zeros."
        found.add("padding", text, *where, remedy='padding_mode="zeros".', node=mine)


def _norm_settings(mine: Node, where: tuple[str, str], found: Findings) -> None:
    values = mine.settings
    if values["type"] != "batch norm":
        text = f"the normalisation is {a(values['type'])}, the reference's is batch norm."
        found.add("norm-type", text, *where, node=mine)
        return
    if values["training"] or not values["running"]:
        text = "batch norm uses the batch's statistics in evaluation too."
        remedy = "keep running statistics (track_running_stats=True) and follow model.eval()."
        found.add("norm-statistics", text, *where, node=mine, remedy=remedy)
    if not values["affine"]:
        text = "batch norm has no learned scale and shift."
        found.add("norm-affine", text, *where, node=mine)
    if values["eps"] != 1e-5:
        found.note(f"batch norm's eps is {values['eps']:g}; PyTorch's usual one is 1e-05.")
    momentum = values["momentum"]
    if momentum is not None and momentum != 0.1 and values["running"]:
        if momentum > 0.5:
            text = (
                f"batch norm's momentum is {momentum:g}: the running statistics are nearly those "
                "of the last batch."
            )
            found.add("norm-momentum", text, *where, node=mine)
        else:
            found.note(f"batch norm's momentum is {momentum:g}; PyTorch's usual one is 0.1.")


def _pool_settings(mine: Node, other: Node, where: tuple[str, str], found: Findings) -> None:
    one, two = mine.settings, other.settings
    keys = ("kernel", "stride", "padding", "dilation", "ceil_mode")
    if mine.kind != other.kind:
        text = f"the stem's pool is {a(mine.words)}, the reference's {a(other.words)}."
        found.add("max-pool", text, *where, node=mine)
        return
    wrong = [key for key in keys if one.get(key) != two.get(key)]
    if wrong:
        mine_words = ", ".join(f"{key} {_by(one.get(key))}" for key in wrong)
        other_words = ", ".join(f"{key} {_by(two.get(key))}" for key in wrong)
        text = f"the max pool has {mine_words}; the reference's has {other_words}."
        found.add("max-pool", text, *where, node=mine, remedy=f"take {other_words}.")


def _classifier(mine: Node, other: Node, where: tuple[str, str], found: Findings) -> None:
    one, two = mine.settings, other.settings
    if one["out"] != two["out"]:
        text = f"the network has {one['out']} outputs; {two['out']} classes are expected."
        remedy = f"if {one['out']} classes are meant, set `num_classes` to {one['out']}."
        found.add("num-classes", text, *where, remedy=remedy, node=mine)
    if not one["bias"]:
        found.add("head-bias", "the classifier has no bias.", *where, node=mine)


def _by(value: Any) -> str:
    """A pair of numbers as a person would write it."""
    if isinstance(value, tuple):
        return str(value[0]) if len(set(value)) == 1 else "x".join(map(str, value))
    return str(value)


def _plain(value: Any) -> str:
    return str(value[0]) if isinstance(value, tuple) and len(set(value)) == 1 else str(value)
