"""A trace as what the papers draw: stem, residual units of a branch and a shortcut, head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

from resnetlab.comparison.operations import Node

MERGES = {"add": "added", "cat": "concatenated", "mul": "multiplied", "sub": "subtracted"} | {
    "maximum": "compared for the larger"
}
"""Operations that join a branch and a shortcut, in words; only the first is right."""
POOLS = ("globalpool", "avgpool", "maxpool", "mean")


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


@dataclass(eq=False)
class Structure:
    """A network as stem, units and head; ``layers`` has them in one row."""

    stem: list[Node]
    units: list[Unit]
    head: list[Node]
    style: str
    """post (ReLU after the addition) or pre (batch norm and ReLU before the convolutions)"""

    @property
    def layers(self) -> list[Node]:
        return [*self.stem, *(n for unit in self.units for n in unit_layers(unit)), *self.head]


def unit_layers(unit: Unit) -> list[Node]:
    return [*unit.before, *unit.branch, *(unit.shortcut or []), *unit.after]


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
    gate = {node.kind for node in _flat(first)} & {"globalpool", "maxpool", "softmax"}
    if merge.kind not in MERGES or not _weight(first) or len(branches) != 2:
        return [merge]  # a split into more: one foreign operation
    if merge.kind != "add" and gate:
        return [merge]  # squeeze and excitation
    if len(first) and isinstance(first[0], Unit) and len(first) == 1:
        extra = Node("extra-addition", [], merge.place, merge.line, merge.shape, merge.settings)
        return [first[0], extra] if merge.kind == "add" else [merge]
    return [Unit(_flat(first), _flat(branches[1]), merge)]


def _weight(branch: list[Node | Unit]) -> int:
    """Convolutions in a branch: the shortcut is the branch with fewer."""
    return sum(1 for node in _flat(branch) if node.kind == "conv")


def _flat(branch: Iterable[Node | Unit]) -> list[Node]:
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


def parse(output: Node, *, block_convs: int | None = None, style: str | None = None) -> Structure:
    """The structure behind a trace's output.

    ``block_convs``: convolutions in a block, to cut a row without additions into blocks (found by
    majority if None). ``style``: how to share out what stands between two units, see ``Structure``.
    """
    row = [item for item in trunk_of(output) if not _no_operation(item)]
    units = [item for item in row if isinstance(item, Unit)]
    counts = Counter(len(unit.convs) for unit in units)
    if block_convs is None:
        kernels = [n.settings["kernel"] for n in _flat(row) if n.kind == "conv"]
        plain = 3 if kernels.count((1, 1)) > len(kernels) / 2 else 2
        block_convs = max(2, counts.most_common(1)[0][0]) if counts else plain
    head_start = _head_start(row)
    head = [item for item in row[head_start:] if isinstance(item, Node)]
    style = style or _style(row[:head_start], units)
    gaps: list[list[Node]] = [[]]
    for item in row[:head_start]:
        if isinstance(item, Unit):
            gaps.append([])
        else:
            gaps[-1].append(item)
    stem_end = _stem_end(gaps[0], block_convs, style)
    stem, gaps[0] = gaps[0][:stem_end], gaps[0][stem_end:]
    found: list[Unit] = []
    for i, gap in enumerate(gaps):
        rest = gap
        if sum(node.kind == "conv" for node in gap) >= block_convs:
            lead, blocks = _cut_blocks(gap, block_convs, style)
            if found and style == "post":
                found[-1].after += lead
            elif blocks:
                blocks[0].before += lead
            found += blocks
            rest = []
        unit = units[i] if i < len(units) else None
        convs = [j for j, node in enumerate(rest) if node.kind == "conv"]
        if unit is not None and convs and len(convs) + len(unit.convs) == block_convs:
            unit.before += rest[convs[0] :]  # the fork comes too late
            rest = rest[: convs[0]]
        if style == "pre" and unit is not None:
            unit.before = rest + unit.before
        elif style == "pre":
            head = rest + head
        elif found:
            found[-1].after += rest
        else:
            stem += rest
        if unit is not None:
            found.append(unit)
    return Structure(stem, found, head, style)


def _no_operation(item: Node | Unit) -> bool:
    return isinstance(item, Node) and item.kind == "input"


def _head_start(row: list[Node | Unit]) -> int:
    last = max(
        (
            i
            for i, item in enumerate(row)
            if isinstance(item, Unit)
            or (item.kind == "conv" and not any(_is_pool(before) for before in row[:i]))
        ),
        default=-1,
    )
    for i in range(last + 1, len(row)):
        item = row[i]
        if isinstance(item, Node) and (item.kind in POOLS or item.kind in ("linear", "softmax")):
            return i
    return len(row)


def _is_pool(item: Node | Unit) -> bool:
    return isinstance(item, Node) and item.kind == "globalpool"


def _stem_end(gap: list[Node], block_convs: int, style: str) -> int:
    """The stem ends with its max pool; without one, with its convolution's ReLU."""
    pools = [i for i, node in enumerate(gap) if node.kind == "maxpool"]
    if pools:
        return pools[0] + 1
    convs = [i for i, node in enumerate(gap) if node.kind == "conv"]
    if not convs:
        return len(gap)
    end = convs[(len(convs) % block_convs or 1) - 1] + 1
    while style == "post" and end < len(gap) and gap[end].kind in ("norm", "relu", "act"):
        end += 1
    return end


def _style(row: list[Node | Unit], units: list[Unit]) -> str:
    """pre: most branches end with a convolution and have a norm before their first one."""
    if not units:
        return "post"
    ends = sum(bool(unit.branch) and unit.branch[-1].kind == "conv" for unit in units)
    starts, gap = 0, []
    for item in row:
        if isinstance(item, Node):
            gap.append(item.kind)
            continue
        kinds = [node.kind for node in item.branch]
        lead = kinds[: kinds.index("conv")] if "conv" in kinds else kinds
        starts += "norm" in lead or ("norm" in gap and "conv" not in gap)
        gap = []
    return "pre" if 2 * ends > len(units) and 2 * starts >= len(units) - 1 else "post"


def _cut_blocks(gap: list[Node], size: int, style: str) -> tuple[list[Node], list[Unit]]:
    """A row of convolutions without additions as blocks of ``size``; what leads it comes first."""
    starts = [i for i, node in enumerate(gap) if node.kind == "conv"]
    if style == "pre":  # a block starts with the norm before its first convolution
        starts = [
            next((j + 1 for j in range(i - 1, -1, -1) if gap[j].kind == "conv"), 0) for i in starts
        ]
    starts = starts[::size]
    if len(gap) and (sum(node.kind == "conv" for node in gap) % size) and len(starts) > 1:
        starts = starts[:-1]
    blocks = []
    for start, end in zip(starts, [*starts[1:], len(gap)], strict=True):
        nodes = gap[start:end]
        after = []
        while style == "post" and nodes[-1].kind in ("relu", "act", "maxpool", "dropout"):
            after.insert(0, nodes.pop())
        blocks.append(Unit(nodes, None, None, [], after))
    return gap[: starts[0]], blocks
