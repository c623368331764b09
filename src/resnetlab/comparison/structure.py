"""A trace as what the papers draw: stem, residual units of a branch and a shortcut, head."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from resnetlab.comparison.operations import Node
from resnetlab.comparison.trunk import Unit, flat, trunk_of

POOLS = ("globalpool", "avgpool", "maxpool", "mean", "sumpool")


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


def parse(output: Node, *, block_convs: int | None = None, style: str | None = None) -> Structure:
    """The structure behind a trace's output.

    ``block_convs``: convolutions in a block, to cut a row without additions into blocks (found by
    majority if None). ``style``: how to share out what stands between two units, see ``Structure``.
    """
    row = [item for item in trunk_of(output) if not _no_operation(item)]
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
    return Structure(stem, found, head, style)


def _activates_sum(gap: list[Node], unit: Unit | None) -> bool:
    """Whether a ReLU follows an addition though the next block normalises first."""
    kinds = [node.kind for node in gap[:2]] + [
        node.kind for node in (unit.branch[:1] if unit else [])
    ]
    return bool(gap) and kinds[0] in ("relu", "act") and "norm" in kinds[1:2]


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
    """pre: most branches end with a convolution and have a norm or ReLU before their first one."""
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
        leads = not {"norm", "relu", "act"}.isdisjoint(lead)
        starts += leads or ("norm" in gap and "conv" not in gap)
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
