"""A trace as one row of operations in which every fork and join is a unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

from resnetlab.comparison.operations import Node

MERGES = {"add": "added", "cat": "concatenated", "mul": "multiplied", "sub": "subtracted"} | {
    "maximum": "compared for the larger"
}
"""Operations that join a branch and a shortcut, in words; only the first is right."""


@dataclass(eq=False)
class Unit:
    """``merge(branch(x), shortcut(x))``, with what stands before the fork and after the merge."""

    branch: list[Node]
    shortcut: list[Node] | None
    """[]: the identity; None: there is no addition (a block of a plain net)"""
    merge: Node | None = None
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)

    @property
    def convs(self) -> list[Node]:
        return [node for node in self.branch if node.kind == "conv"]

    @property
    def shortcut_kind(self) -> str:
        """none, identity, pad, projection, pooled projection, or other."""
        if self.shortcut is None:
            return "none"
        kinds = {node.kind for node in self.shortcut}
        if not kinds:
            return "identity"
        if kinds <= {"pad", "slice"}:
            return "pad"
        if "conv" in kinds:
            return "pooled projection" if kinds & {"avgpool", "globalpool"} else "projection"
        return "other"

    @property
    def nodes(self) -> list[Node]:
        """Every operation of the unit, the merge without its gap to the next unit last."""
        return [*self.branch, *(self.shortcut or []), *([self.merge] if self.merge else [])]

    @property
    def place(self) -> str:
        """The module that holds the unit, '' if that is the network itself."""
        return common_place(node.place for node in self.nodes)


def common_place(places: Iterable[str]) -> str:
    """The innermost module that holds all the places."""
    parts = [place.split(".") for place in places]
    common = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return ".".join(names[0] for names in common)


def trunk_of(output: Node) -> list[Node | Unit]:
    """The row of operations from image to logits in which every fork has become a ``Unit``."""
    live: dict[int, Node] = {}
    todo = [output]
    while todo:
        node = todo.pop()
        if node.index not in live:
            live[node.index] = node
            todo.extend(node.inputs)
    nodes = [live[index] for index in sorted(live)]
    return _row(nodes[0], nodes[1:])


def _row(source: Node, nodes: list[Node]) -> list[Node | Unit]:
    """Cut the graph source -> nodes[-1] where every path passes; a fork lies between two cuts."""
    position = {node.index: i for i, node in enumerate([source, *nodes])}
    reach = list(range(len(position)))  # the last node that reads each
    for node in nodes:
        for parent in node.inputs:
            reach[position[parent.index]] = position[node.index]
    row: list[Node | Unit] = []
    furthest, cut = reach[0], 0
    for i, node in enumerate([source, *nodes]):
        if i == 0 or furthest > i:  # some path jumps over this node
            furthest = max(furthest, reach[i])
            continue
        inside = nodes[cut : i - 1]
        if inside or len(node.inputs) > 1:
            row.extend(_merge([source, *nodes][cut], inside, node))
        else:
            row.append(node)
        furthest, cut = reach[i], i
    return [_join_padding(row, i) for i in range(len(row)) if not _is_padding(row, i)]


def _merge(fork: Node, inside: list[Node], merge: Node) -> list[Node | Unit]:
    known = {node.index: node for node in inside}
    paths: list[dict[int, Node]] = []
    for end in merge.inputs:
        mine: dict[int, Node] = {}
        todo = [end]
        while todo:
            node = todo.pop()
            if node.index in known and node.index not in mine:
                mine[node.index] = node
                todo.extend(node.inputs)
        paths.append(mine)
    if sum(map(len, paths)) > len(set().union(*paths)):
        return [merge]  # the paths share operations (DenseNet): one foreign operation
    branches = [_row(fork, [path[i] for i in sorted(path)]) if path else [] for path in paths]
    branches.sort(key=lambda branch: (-_weight(branch), -len(branch)))
    first = branches[0]
    gate = {node.kind for node in flat(first)} & {"globalpool", "maxpool", "softmax"}
    if merge.kind not in MERGES or not _weight(first) or len(branches) != 2:
        return [merge]  # a split into more: one foreign operation
    if merge.kind != "add" and gate:
        return [merge]  # squeeze and excitation
    if len(first) and isinstance(first[0], Unit) and len(first) == 1:
        extra = Node("extra-addition", [], merge.place, merge.line, merge.shape, merge.settings)
        return [first[0], extra] if merge.kind == "add" else [merge]
    return [Unit(flat(first), flat(branches[1]), merge)]


def _weight(branch: list[Node | Unit]) -> int:
    """Convolutions in a branch: the shortcut is the branch with fewer."""
    return sum(1 for node in flat(branch) if node.kind == "conv")


def flat(branch: Iterable[Node | Unit]) -> list[Node]:
    """A branch as a row; a fork within it stays visible as its merge."""
    row: list[Node] = []
    for item in branch:
        row.extend([item] if isinstance(item, Node) else item.nodes)
    return row


def _is_padding(row: list[Node | Unit], i: int) -> bool:
    """Zeros around the image, for the convolution or the max pool that follows."""
    node, follower = row[i], row[i + 1] if i + 1 < len(row) else None
    if not isinstance(node, Node) or not isinstance(follower, Node) or node.kind != "pad":
        return False
    pad = node.settings.get("pad")
    spatial = isinstance(pad, (list, tuple)) and len(pad) == 4 and min(pad) >= 0
    zeros = node.settings["mode"] == "constant_pad_nd"
    return spatial and zeros and follower.kind in ("conv", "maxpool")


def _join_padding(row: list[Node | Unit], i: int) -> Node | Unit:
    item = row[i]
    if isinstance(item, Node) and i and _is_padding(row, i - 1):
        before = row[i - 1]
        assert isinstance(before, Node)
        left, right, top, bottom = before.settings["pad"]
        y, x = item.settings.setdefault("own padding", item.settings["padding"])
        item.settings["padding"] = (
            (y + top, x + left) if (left, top) == (right, bottom) else (left, right, top, bottom)
        )
    return item
