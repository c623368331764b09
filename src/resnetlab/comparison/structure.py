"""A trace as what the papers draw: stem, residual blocks of a branch and a shortcut, head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from resnetlab.comparison.operations import POOLS, Node, behind, shrinkage

MERGES = {"add": "added", "cat": "concatenated", "mul": "multiplied", "sub": "subtracted"} | {
    "maximum": "compared for the larger"
}
"""Operations that join a branch and a shortcut, in words; only the first is right."""
ODD_POOLS = ("pow", "clamp", "clamp_min", "fork", "exp", "log", "sqrt", "amax", "max")
"""Of what an unusual pooling is made."""
ACTIVATIONS = ("relu", "act")
GROWING = {"pad", "cat", "repeat"}
"""Operations that give a map more channels."""
# ruff: noqa: SIM905
STATISTICS = frozenset("mean sum var var_mean sub add shift scale pow mul sqrt rsqrt div".split())
"""Of what the normalisation in a function is made."""
FEW_PATHS = 3
"""From so many equal paths on a block is a ResNeXt's, written without groups."""
LOWEST = -1e4
"""What is below stands for minus infinity."""
PADDING_MODES = {"reflection": "reflect", "replication": "replicate", "constant": "constant"}


@dataclass(eq=False)
class Unit:
    """``merge(branch(x), shortcut(x))``, with what stands before the fork and after the merge."""

    kind: ClassVar[str] = "unit"
    """what it is in a row of operations"""
    branch: list[Node]
    shortcut: list[Node] | None
    """[]: the identity; None: there is no addition (a block of a plain net)"""
    merge: Node | None = None
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)
    source: Literal["input", "earlier"] = "input"
    """where the shortcut starts: at the block's input, or at an earlier block's"""

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
        if kinds & GROWING and kinds <= {*GROWING, "slice"}:
            return "pad"
        if "conv" in kinds:
            return "pooled projection" if kinds & {"avgpool", "globalpool"} else "projection"
        return "other"

    @property
    def layers(self) -> list[Node]:
        """Every operation but the merge, in order."""
        return [*self.before, *self.branch, *(self.shortcut or []), *self.after]

    @property
    def place(self) -> str:
        """The module that holds the unit, '' if that is the network itself."""
        own = [*self.branch, *(self.shortcut or []), *([self.merge] if self.merge else [])]
        parts = [node.place.split(".") for node in own]
        common = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
        return ".".join(names[0] for names in common)

    @property
    def out(self) -> int:
        """Channels that leave the block."""
        return self.convs[-1].settings["out"] if self.convs else 0

    @property
    def stride(self) -> int:
        """By how much the branch divides the resolution, however it does it."""
        stride = 1
        late = [i for i, node in enumerate(self.before) if node.kind == "conv"]
        for node in [*(self.before[late[0] :] if late else []), *self.branch]:
            if node.kind in ("conv", "blur", "maxpool", "avgpool", "slice"):
                stride *= max(shrinkage(node))
        return stride


Item = Node | Unit
"""Of a row."""


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
        return [*self.stem, *(n for unit in self.units for n in unit.layers), *self.head]

    def name(self, unit: Unit) -> str:
        """A unit's module path; its number and convolutions where no module holds it alone."""
        place = unit.place
        alone = sum(other.place.startswith(place) for other in self.units) == 1
        if place and (alone or sum(other.place == place for other in self.units) == 1):
            return place
        number = self.units.index(unit) + 1
        convs = [node.label for node in unit.convs]
        return f"block {number} ({convs[0]} to {convs[-1]})" if convs else f"block {number}"


def parse(output: Node, *, block_convs: int | None = None, style: str | None = None) -> Structure:
    """The structure behind a trace's output.

    ``block_convs``: convolutions in a block, to cut a row without additions into blocks (found by
    majority if None). ``style``: how to share out what stands between two units, see ``Structure``.
    """
    row = [item for item in trunk_of(output) if item.kind != "input"]
    units = [item for item in row if isinstance(item, Unit)]
    counts = Counter(len(unit.convs) for unit in units)
    if block_convs is None:
        kernels = [n.settings["kernel"] for n in flat(row) if n.kind == "conv"]
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
    stem_end = _stem_end(gaps[0], block_convs, style, bool(units))
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
        if style == "pre" and found and _activates_sum(rest, unit):
            found[-1].after.append(rest.pop(0))
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
    _classify_first(found, head)
    return Structure(stem, found, head, style)


def _classify_first(units: list[Unit], head: list[Node]) -> None:
    """A 1x1 convolution as classifier before the pooling, in the order that means the same."""
    kinds = [node.kind for node in head]
    if not units or kinds[:1] != ["globalpool"] or "linear" in kinds or "conv" in kinds:
        return
    after = units[-1].after
    if after and after[-1].kind == "conv" and after[-1].settings["kernel"] == (1, 1):
        head.insert(1, after.pop())


def _activates_sum(gap: list[Node], unit: Unit | None) -> bool:
    """Whether a ReLU follows an addition though the next block normalises first."""
    following = [*gap[1:2], *(unit.branch[:1] if unit else [])][:1]
    return bool(gap) and gap[0].kind in ACTIVATIONS and any(n.kind == "norm" for n in following)


def _head_start(row: list[Item]) -> int:
    last, pooled = -1, False
    for i, item in enumerate(row):
        if item.kind == "unit" or (item.kind == "conv" and not pooled):
            last = i
        pooled |= item.kind == "globalpool"
    begins = (*POOLS, *ODD_POOLS, "linear", "softmax")
    for i in range(last + 1, len(row)):
        corner = row[i].kind == "slice" and len(getattr(row[i], "shape", ())) in (2, 3)
        activated = row[i].kind in ODD_POOLS and [x.kind for x in row[i + 1 : i + 2]] == ["relu"]
        if corner or (row[i].kind in begins and not activated):
            return i
    return len(row)


def _stem_end(gap: list[Node], block_convs: int, style: str, residual: bool) -> int:
    """The stem ends with its pool; without one, with its convolution's ReLU."""
    convs = [i for i, node in enumerate(gap) if node.kind == "conv"]
    if not convs:
        return len(gap)
    early = convs[3] if len(convs) > 3 and not residual else len(gap)
    pools = [i for i, n in enumerate(gap) if n.kind in ("maxpool", "avgpool") and i < early]
    if pools:
        return pools[0] + 1
    end = convs[(len(convs) % block_convs or 1) - 1] + 1
    while style == "post" and end < len(gap) and gap[end].kind in ("norm", *ACTIVATIONS):
        end += 1
    return end


def _style(row: list[Item], units: list[Unit]) -> str:
    """pre: most branches begin with batch norm and ReLU, before or behind the fork.

    A branch that begins with batch norm alone is one only if no ReLU follows the additions: else
    it is one of 2015 whose batch norm stands on the wrong side of the convolution. Batch norm and
    ReLU between two blocks are the second's, unless the first's module holds the norm: then it
    is one of 2015 whose last batch norm stands after the addition.
    """
    inside = outside = activated = ends = closing = 0
    gap: list[Node] = []
    previous: Unit | None = None
    for item in row:
        if isinstance(item, Node):
            gap.append(item)
            continue
        lead = list(takewhile(lambda node: node.kind != "conv", item.branch))
        kinds = [node.kind for node in gap]
        if previous is not None:
            activated += kinds[:1] in (["relu"], ["act"])
        if "conv" in kinds:
            lead = []  # the fork comes late, inside a block
        inside += bool(lead) and lead[-1].kind in ACTIVATIONS
        outside += "norm" in kinds and "conv" not in kinds
        closing += previous is not None and _closes(gap, previous, item)
        inside += bool(lead) and lead[-1].kind == "norm" and kinds[:1] not in (["relu"], ["act"])
        ends += bool(item.branch) and item.branch[-1].kind == "conv"
        gap, previous = [], item
    if 2 * inside > len(units) or (inside and 2 * (inside + outside) > len(units)):
        return "pre"
    projected = [unit for unit in units if unit.shortcut_kind == "projection"]
    normed = sum(any(n.kind == "norm" for n in unit.shortcut or []) for unit in projected)
    late = 2 * outside >= len(units) - 1 and 2 * ends > len(units) and 2 * closing <= outside
    late = late and 2 * normed <= len(projected)  # of 2016 a projection has no batch norm
    return "pre" if units and late and (outside or inside) and not activated else "post"


def _closes(gap: list[Node], before: Unit, after: Unit) -> bool:
    """Whether a norm between two units is the first's, whose module holds it."""
    norm = next((node for node in gap if node.kind == "norm"), None)
    if norm is None:
        return False
    held = [bool(u.place) and f"{norm.place}.".startswith(f"{u.place}.") for u in (before, after)]
    return held == [True, False]


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
        while style == "post" and nodes[-1].kind in (*ACTIVATIONS, "maxpool"):
            after.insert(0, nodes.pop())
        blocks.append(Unit(nodes, None, None, [], after))
    return gap[: starts[0]], blocks


def trunk_of(output: Node) -> list[Item]:
    """The row of operations from image to logits in which every fork has become a ``Unit``."""
    nodes = behind([output])
    return _row(nodes[0], nodes[1:])


def _row(source: Node, nodes: list[Node]) -> list[Item]:
    """Cut the graph source -> nodes[-1] where every path passes; a fork lies between two cuts."""
    position = {node.index: i for i, node in enumerate([source, *nodes])}
    reach = list(range(len(position)))  # the last node that reads each
    for node in nodes:
        for parent in node.inputs:
            if parent.index in position:
                reach[position[parent.index]] = position[node.index]
    row: list[Item] = []
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
    return fold(row)


def _merge(fork: Node, inside: list[Node], merge: Node) -> list[Item]:
    """What lies between a fork and its merge: a block, a gate, or one foreign operation."""
    if row := _from_earlier(fork, inside, merge):
        return row
    if joined := joined_paths(fork, inside, merge):
        branch, shortcut = joined
        return [*branch] if shortcut is None else [Unit(branch, shortcut, merge)]
    paths = [[n for n in behind([end], fork) if n is not fork] for end in merge.inputs]
    if sum(map(len, paths)) > len({node.index for path in paths for node in path}):
        return [_foreign(inside, merge)]  # the paths share operations (DenseNet)
    branches = [_row(fork, path) if path else [] for path in paths]
    branches.sort(key=lambda branch: (-_weight(branch), -len(branch)))
    if len(branches) == 1 or len(set(map(id, merge.inputs))) == 1:
        return [*branches[0], merge]
    kinds = {node.kind for node in inside}
    gated = merge.kind == "mul" and len(branches) == 2 and not branches[1]
    if gated and (kinds & {"globalpool", "maxpool", "avgpool", "mean", "softmax", "sumpool"}):
        return [_stand_in("gate", inside, merge)]
    if gated and not _weight(branches[0]):
        return [_foreign(inside, merge)]
    if merge.kind not in MERGES or not _weight(branches[0]) or len(branches) != 2:
        return [_foreign(inside, merge)]
    heavy = branches[0]
    nested = [item for item in heavy if isinstance(item, Unit)]
    bare = [item for item in heavy if isinstance(item, Node)]
    if nested and not _weight(bare) and merge.kind == "add":  # a shortcut around whole blocks
        extra = _stand_in("extra-addition", flat(branches[1]), merge)
        return [*heavy, extra]
    return [Unit(flat(heavy), flat(branches[1]), merge)]


def _from_earlier(fork: Node, inside: list[Node], merge: Node) -> list[Item]:
    """Blocks whose shortcut was set once, before a loop: two additions read the same.

    [] if there is no other such addition.
    """
    for skip, end in (merge.inputs, merge.inputs[::-1]) if len(merge.inputs) == 2 else ():
        added = [n for n in inside if n.kind == "add" == merge.kind and skip in n.inputs]
        if skip is end or not added:
            continue
        first = [n for n in behind([added[-1]], fork) if n is not fork]
        last = [n for n in behind([end], added[-1]) if n is not added[-1]]
        if {*first, *last} != {*inside}:
            continue
        row = _row(added[-1], last)
        lead = list(takewhile(lambda item: item.kind in ACTIVATIONS, row))
        branch = [item for item in row[len(lead) :] if isinstance(item, Node)]
        if _weight(branch) and len(branch) + len(lead) == len(row):
            unit = Unit(branch, [], merge, source="earlier")
            return [*_row(fork, first), *lead, unit]
    return []


def _stand_in(kind: str, inside: list[Node], merge: Node) -> Node:
    """One node for several, which it names as its own."""
    settings = {"inside": [*inside, merge]}
    return replace(merge, kind=kind, inputs=[], settings=settings, tensors=(), names=(), buffers=())


def _foreign(inside: list[Node], merge: Node) -> Node:
    """A fork that no ResNet has."""
    if not inside:
        return merge
    node = _stand_in("fork", inside, merge)
    joined = MERGES.get(merge.kind, "joined")
    lengths = {node.kind for node in inside} <= {"linalg_vector_norm", "clamp_min"}
    normalised = "normalisation of each row to the length 1"
    node.settings["name"] = normalised if lengths else f"split into branches that are {joined}"
    return node


def _weight(branch: list[Item] | list[Node]) -> int:
    """Convolutions in a branch: the shortcut is the branch with fewer."""
    return sum(1 for node in flat(branch) if node.kind == "conv")


def flat(branch: Iterable[Item]) -> list[Node]:
    """A branch as a row; a fork within it stays visible as its merge."""
    row: list[Node] = []
    for item in branch:
        if isinstance(item, Node):
            row.append(item)
        else:
            row += [*item.branch, *(item.shortcut or []), *([item.merge] if item.merge else [])]
    return row


def parse_before(crash: list[Node], block_convs: int) -> Structure | None:
    """The part of a network that ran before a crash: up to the last complete unit."""
    last = [node for node in crash if node.kind in ("add", "maxpool")]
    if not last:
        return None
    end = last[-1].index
    followers = [node for node in crash[end + 1 : end + 2] if node.kind in ACTIVATIONS]
    parsed = parse(followers[0] if followers else last[-1], block_convs=block_convs)
    if not parsed.units:
        parsed.stem += parsed.head  # a max pool at the end
    parsed.head = []
    return parsed


def fold(row: list[Item]) -> list[Item]:
    """A row in which layers with their padding, power pools and norms are one operation each."""
    padded: list[Item] = []
    for item in row:
        border = padded[-1] if padded else item
        if isinstance(border, Node) and isinstance(item, Node) and _is_padding(border, item):
            _give_padding(border, item)
            padded.pop()
        padded.append(item)
    for i, pair in enumerate(pairwise(padded)):  # the maximum of ReLUs is the ReLU of it
        if [item.kind for item in pair] == ["maxpool", "relu"]:
            padded[i : i + 2] = pair[::-1]
    folded: list[Item] = []
    while padded:
        nodes: list[Node] = list(takewhile(_is_node, padded[:5]))  # type: ignore[arg-type]
        item, count = _power_pool(nodes) or _norm_by_hand(nodes) or (padded[0], 1)
        folded.append(item)
        padded = padded[count:]
    return folded


def _is_node(item: Item) -> bool:
    return isinstance(item, Node)


def _is_padding(node: Node, follower: Node) -> bool:
    """A border for the convolution or the max pool that follows, of a pool one that never wins."""
    pad = node.settings.get("pad") if node.kind == "pad" else None
    if follower.kind not in ("conv", "maxpool", "blur") or not isinstance(pad, (list, tuple)):
        return False
    constant, value = node.settings["mode"] == "constant_pad_nd", node.settings["value"]
    unseen = constant and (not value or value <= LOWEST)  # zeros: behind a ReLU
    return (unseen or follower.kind != "maxpool") and len(pad) == 4 and min(pad) >= 0


def _give_padding(border: Node, layer: Node) -> None:
    """Make the padding that stands before a layer its own."""
    left, right, top, bottom = border.settings["pad"]
    y, x = layer.settings.setdefault("own padding", layer.settings.get("padding", (0, 0)))
    sides = (x + left, x + right, y + top, y + bottom)
    even = (left, top) == (right, bottom)
    layer.settings["padding"] = (y + top, x + left) if even else sides
    layer.settings["padded at"] = border.location if border.direct else None
    mode = border.settings["mode"].partition("_")[0]
    if (mode != "constant" or border.settings["value"]) and layer.kind != "maxpool":
        layer.settings["padding mode"] = PADDING_MODES[mode]


def _power_pool(row: list[Node]) -> tuple[Node, int] | None:
    """What nn.LPPool2d comes to, and of how many operations."""
    kinds = [node.kind for node in row[:5]]
    pools = ("avgpool", "globalpool")
    if kinds[:1] + kinds[2:] != ["pow", "fork", "scale", "pow"] or kinds[1] not in pools:
        return None
    return replace(row[4], kind="lp", settings=row[1].settings, inputs=row[0].inputs), 5


def _norm_by_hand(row: list[Node]) -> tuple[Node, int] | None:
    """A batch norm written in a function, and of how many operations.

    In training they are a fork (statistics and values), then a scale and a shift; in evaluation
    three or more scales and shifts with a value for each channel.
    """
    training = bool(row) and _is_statistics(row[0])
    run = list(takewhile(_is_per_channel, row[training:]))[: 2 if training else 4]
    if not training and len(run) < 3:
        return None
    scale: Tensor | None = None
    shift: Tensor | None = None
    for node in run:
        vector = node.tensors[0]
        assert vector is not None
        if training:  # as they are, for their gradients
            scale, shift = (vector, shift) if node.kind == "scale" else (scale, vector)
            continue
        vector = vector.detach().flatten()
        scale = torch.ones_like(vector) if scale is None else scale
        shift = torch.zeros_like(vector) if shift is None else shift
        if node.kind == "shift":
            shift = shift - vector if node.settings["operation"] == "sub" else shift + vector
        else:
            factor = 1 / vector if node.settings["operation"] == "div" else vector
            scale, shift = scale * factor, shift * factor
    count = training + len(run)
    first, last = row[0], row[count - 1]
    settings = {
        "type": "batch norm", "eps": 1e-5, "momentum": None, "by_hand": True,
        "affine": scale is not None, "training": training, "running": True,
    }  # fmt: skip
    norm = replace(
        last, kind="norm", inputs=first.inputs, settings=settings, in_shape=first.shape,
        tensors=(scale, shift, None, None),
        place=first.place, location=first.location, direct=first.direct,
        names=tuple(sorted({name for node in run for name in node.names})),
        buffers=tuple(sorted({name for node in run for name in node.buffers})),
    )  # fmt: skip
    return norm, count


def _is_statistics(node: Node) -> bool:
    if node.kind != "fork" or len(node.shape) != 4:
        return False
    inside = node.settings["inside"]
    vectors = [n for n in inside if n.kind in ("mean", "var", "var_mean")]
    whole = any(prod(n.shape) == node.shape[1] for n in vectors)
    return whole and {n.kind for n in inside} <= STATISTICS


def _is_per_channel(node: Node) -> bool:
    if node.kind not in ("scale", "shift") or len(node.shape) != 4:
        return False
    vector = node.tensors[0] if node.tensors else None
    return vector is not None and vector.numel() == node.shape[1]


def joined_paths(
    fork: Node, inside: list[Node], merge: Node
) -> tuple[list[Node], list[Node] | None] | None:
    """The branch and the shortcut of a block whose branch is many equal paths that are added.

    The paths become one of grouped convolutions, as in ResNeXt (arXiv:1611.05431, figure 3); the
    shortcut is None if the sum is of the paths alone. None if there are no such paths.
    """
    own = {node.index for node in inside}
    leaves, sums, todo = list[Node](), 0, [merge]
    while todo:
        node = todo.pop()
        if node.kind == merge.kind == "add" and (node is merge or node.index in own):
            sums += 1
            todo += node.inputs[::-1]
        else:
            leaves.append(node)
    if merge.kind == "cat":
        leaves, sums = list(merge.inputs), 1
    paths = [[n for n in behind([leaf], fork) if n is not fork] for leaf in leaves]
    makes = [tuple((n.kind, n.settings.get("kernel"), n.shape) for n in path) for path in paths]
    make = max(makes, key=makes.count)
    equal = [path for path, other in zip(paths, makes, strict=True) if other == make]
    others = [path for path, other in zip(paths, makes, strict=True) if other != make]
    convs = [i for i, (kind, *_) in enumerate(make) if kind == "conv"]
    whole = sum(map(len, paths)) + sums == len(inside) + 1
    if len(equal) < FEW_PATHS or len(others) > (merge.kind == "add") or not convs or not whole:
        return None
    ends = convs[0], convs[-1] if merge.kind == "add" else len(make)
    joined = [_joined(row, i, *ends) for i, row in enumerate(zip(*equal, strict=True))]
    joined[convs[0]].settings["sums"] = sums - len(others)
    return joined, others[0] if others else None


def _joined(nodes: tuple[Node, ...], i: int, first: int, last: int) -> Node:
    """The same operation of every path as one; the first and the last convolution are whole."""
    node, count = nodes[0], len(nodes)
    settings = dict(node.settings)
    if node.kind == "conv":
        settings["paths"] = count
        settings["groups"] *= count if first < i < last else 1
        settings["out"] *= count if i < last else 1
        settings["in"] *= count if i > first else 1
    names = tuple(name for other in nodes for name in other.names)
    return replace(node, settings=settings, tensors=(), names=names, index=nodes[-1].index)
