"""The candidate against the reference: trace both, lay them side by side, prove what is equal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from typing import Any, Literal

import torch
from torch import nn

from resnetlab.arguments import check_types
from resnetlab.comparison.faults import (
    check_gradients,
    check_initialisation,
    check_output,
    check_ownership,
    check_precision,
    check_single_image,
    check_sizes,
    check_training,
)
from resnetlab.comparison.layers import Pairs
from resnetlab.comparison.modes import check_gradient_mode
from resnetlab.comparison.nearest import SMALL_IMAGE, choose_reference, guess_fields, nearest
from resnetlab.comparison.operations import Node
from resnetlab.comparison.proof import Proof
from resnetlab.comparison.report import HARMS, Comparison, Findings, Row
from resnetlab.comparison.rules import SideBySide, compare_structures, distance
from resnetlab.comparison.structure import Structure, Unit, parse, parse_before
from resnetlab.comparison.target import build, origin_of, own_settings
from resnetlab.comparison.trace import (
    Trace,
    fill_lazy_layers,
    first_run,
    refuse,
    trace_network,
    unwrap,
)
from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.models.summary import on_meta

HARMLESS = {"init", "single-image", "fixed-size", "output", "auxiliary-output", "frozen-parameters"}
"""Kinds that leave the function as it is, so that the proof is tried all the same."""
STRANGE = 0.5
"""From this distance on a network is none of the papers'."""


@check_types
def compare_models(
    candidate: nn.Module | Callable[..., Any],
    reference: ResNet | Architecture | str | None = None,
    *,
    image_size: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
) -> Comparison:
    """How anybody's ResNet differs from the reference. RUNS THE CANDIDATE'S CODE, on a copy.

    ``candidate``: a network, or a class or factory that makes one. ``reference``: None finds the
    closest of the table and takes over what is a legitimate choice (stem, shortcut A, B or D, v1
    or v1.5, order of 2015 or 2016, number of classes). A named reference is taken at its word.
    ``image_size``: pixels; None: 224 behind an ImageNet stem, else 32. At most 48 pixels call for
    the CIFAR stem. ``in_channels``: None: 3, or what the candidate's first convolution takes.
    ``num_classes``: what is expected; None: the named reference's, or the candidate's.

    Initialisation is a difference only if it is far from He's (see ``check_initialisation``);
    PyTorch's default is noted. So is batch norm's eps. Raises UserError for an unknown reference
    and for a network that cannot be built or is no 2-D network of modules.
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"`image_size` must be at least 1, not {image_size}.")
    if isinstance(reference, str):
        _check_name(reference)
    model = build(candidate, num_classes=num_classes, in_channels=in_channels)
    refuse(model)
    origin = origin_of(model)
    name = origin.name or type(model).__name__
    found = Findings(made=origin.made, written=origin.written, frozen=origin.frozen)
    with own_settings():
        fill_lazy_layers(model, image_size or 224, in_channels or 3, found)
        try:
            model = copy.deepcopy(model)
        except Exception:  # e.g. a stored activation; the network itself is then used
            found.note("The network cannot be copied, so the comparison used up its weights.")
        model = unwrap(model).cpu().float()
        trace, size, channels = first_run(model, image_size, in_channels, num_classes, found)
        plan = choose_reference(model, trace, reference, name, image_size, num_classes, channels)
        named = reference is not None
        return _Run(model, name, trace, size, channels, found, named, *plan).compare(image_size)


def _check_name(name: str) -> None:
    try:
        get_architecture(name)
    except ValueError as error:
        raise UserError(str(error)) from error


@dataclass
class _Run:
    """One comparison at work."""

    model: nn.Module
    name: str
    trace: Trace
    size: int
    channels: int
    found: Findings
    named: bool
    """whether the user chose the reference"""
    reference_name: str
    reference: ResNet

    def compare(self, image_size: int | None) -> Comparison:
        record = self.reference.architecture
        own = self._reference_structure()
        self.found.style = record.activation
        sides, parsed = None, None
        difference = None
        if self.trace.output is not None:
            parsed = parse(self.trace.output, block_convs=self.block)
            if not parsed.units or record.shortcut == "none":
                parsed = parse(self.trace.output, block_convs=self.block, style=record.activation)
            sides = compare_structures(parsed, own, self.found)
            difference = self._check(own)
            lost = self.found.count("discarded-output") + self.found.count("left-out")
            if lost and (not self.named or len(parsed.units) + lost == len(own.units)):
                self.found.drop("depth")  # it has the blocks, or they did not count for the choice
        else:
            parsed = parse_before(self.trace.nodes, self.block)
            if parsed is not None:
                part = Structure(own.stem, own.units[: len(parsed.units)], [], own.style)
                sides = compare_structures(parsed, part, self.found)
        own_name = self.reference_name.partition(" ")[0]
        if not self.named and get_architecture(own_name).stem == "deep":
            self.found.note(
                f"{own_name} is the variant D of arXiv:1812.01187 "
                "(Bag of Tricks): a stem of three 3x3 convolutions, average pooling before the 1x1 "
                "convolution of a shortcut. The papers of 2015 and 2016 have neither."
            )
        if image_size and image_size <= SMALL_IMAGE:
            _explain_small_stem(self.found, image_size)
        far = distance(self.trace, sides, own) if self.trace.output is not None else 0.0
        if far > STRANGE and not self.found.kinds() & {"block", "discarded-output", "left-out"}:
            self._judge_family(far)
        differences = self.found.differences()
        keys = [[(k, v.shape) for k, v in net.state_dict().items()] for net in self.networks]
        equal: Literal["identical", "equivalent"] = (
            "identical" if keys[0] == keys[1] else "equivalent"
        )
        counts = [sum(p.numel() for p in net.parameters()) for net in self.networks]
        return Comparison(
            verdict="different" if differences else equal,
            candidate=self.name,
            reference=self.reference_name,
            differences=differences,
            distance=round(far, 3),
            parameters=counts[0],
            reference_parameters=counts[1],
            parameter_differences=()
            if sides is None or self.trace.output is None
            else _count(self.model, sides.operations),
            max_output_difference=difference,
            image_size=self.size,
            in_channels=self.channels,
            notes=tuple(self.found.notes),
            rows=_rows(parsed, own, sides),
        )

    @property
    def networks(self) -> tuple[nn.Module, ResNet]:
        return self.model, self.reference

    @property
    def block(self) -> int:
        """Convolutions in a block of the reference."""
        return 2 if self.reference.architecture.block == "basic" else 3

    def _reference_structure(self) -> Structure:
        record = self.reference.architecture
        small = max(self.reference.architecture.minimum_size, 96 if record.stem != "cifar" else 32)
        device = next(self.reference.parameters()).device  # meta, if it holds no weights
        images = torch.empty(2, record.in_channels, small, small, device=device)
        trace = trace_network(self.reference, images)
        assert trace.output is not None, trace.crash
        return parse(trace.output, block_convs=self.block, style=record.activation)

    def _check(self, own: Structure) -> float | None:
        """Everything but structure, and the proof where nothing stands against it."""
        trace, found = self.trace, self.found
        check_initialisation(trace.live(), found)
        self._check_repeated_input()
        check_output(trace, found)
        other_size = check_sizes(self.model, self.size, self.channels, trace, found)
        check_single_image(self.model, trace, found)
        small, second = (32, 24) if self.reference.architecture.stem == "cifar" else (64, 32)
        small = min(self.size, small) if other_size else self.size
        training = trace_network(
            self.model, torch.randn(4, self.channels, small, small), training=True
        )
        if training.crash and small != self.size:
            small = self.size
            images = torch.randn(4, self.channels, small, small)
            training = trace_network(self.model, images, training=True)
        check_gradients(training, found)
        check_precision([trace, training], found)
        check_ownership(self.model, [trace, training], found)
        check_training(trace, training, found)
        check_gradient_mode(self.model, trace, training, found)
        if trace.precision - {"float32"}:
            low = ", ".join(sorted(trace.precision - {"float32"}))
            found.note(f"The network computes in {low}; it is compared in double precision.")
        if not found.kinds() <= HARMLESS:
            return None
        sizes = (small, min(second, small)) if other_size else (small,)
        before = found.kinds()
        proof = Proof(self.model, self.reference, own, trace.logits.shape[-1], found)  # type: ignore[union-attr]
        difference = proof.run(sizes, self.channels)
        if difference is None and not before:
            found.add("function", "weights", "forward")
        return difference

    def _judge_family(self, far: float) -> None:
        """Say first that the candidate is none of the papers', if no reference is near it."""
        name = self.reference_name
        if self.named and self.trace.output is not None:  # another reference may be near
            name, record = nearest(guess_fields(parse(self.trace.output), None), self.name)
            record = replace(record, in_channels=self.channels)
            other = replace(self, reference=on_meta(record))
            own = other._reference_structure()
            parsed = parse(self.trace.output, block_convs=other.block)
            far = distance(self.trace, compare_structures(parsed, own, Findings()), own)
        if far > STRANGE:
            far_words = f"{far:.2f}"
            self.found.add("not-a-resnet", "far", "the network", nearest=name, distance=far_words)

    def _check_repeated_input(self) -> None:
        first = next((n for n in self.trace.live() if n.kind == "conv"), None)
        taken = first.settings["in"] if first is not None else self.channels
        if first is not None and taken != self.channels:
            where, have = (first.label, "conv1"), self.channels
            self.found.add("repeated-input", "own", *where, node=first, taken=taken, channels=have)


def _explain_small_stem(found: Findings, size: int) -> None:
    for (kind, _), group in found.found.items():
        if kind == "stem":
            left = -(-size // 4)
            group.remedy = (
                f"at {size} pixels the ImageNet stem leaves {left} x {left}: take a 3x3 "
                "convolution of stride 1 and no max pool."
            )


def _count(model: nn.Module, pairs: Pairs) -> tuple[tuple[str, int], ...]:
    """Layers whose parameters differ in number; together they make up the whole difference."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    rest, rows = dict(sizes), dict[str, int]()

    def elements(node: Node | None) -> int:
        names = node.names if node else ()
        return sum(rest.pop(name, 0) for name in names)

    for mine, other in _without_equals(pairs):
        reference = sum(t.numel() for t in other.tensors[:2] if t is not None) if other else 0
        place = mine.label if mine else f"(reference) {other.place if other else ''}"
        rows[place] = rows.get(place, 0) + elements(mine) - reference
    for name, size in rest.items():  # in no layer of the structure: gates, unused layers
        owner = name.rpartition(".")[0] or name
        rows[owner] = rows.get(owner, 0) + size
    return tuple((place, delta) for place, delta in rows.items() if delta)


def _without_equals(pairs: Pairs) -> Pairs:
    """Rows in which what stands at another place is the partner of the same kind and size."""
    rows = list(pairs)
    for lone in [row for row in pairs if row[0] is None and row[1] is not None]:
        for i, (mine, other) in enumerate(rows):
            if mine is None or other is not None or mine.kind != lone[1].kind:  # type: ignore[union-attr]
                continue
            sizes = [[t.shape for t in n.tensors[:2] if t is not None] for n in (mine, lone[1])]  # type: ignore[union-attr]
            if sizes[0] == sizes[1]:
                rows[i] = mine, lone[1]
                rows.remove(lone)
                break
    return rows


ROW, WIDTH, GAP, TOP = 22, 480, 40, 64
COLOURS = {"wrong": "#c0392b", "fragile": "#b9770e", "variant": "#2471a3", "": "#555555"}
"""Of the marks, by the harm of the difference."""
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:14px}"
    ".box{fill:#f6f6f6;stroke:#aaa}.lost{fill:none;stroke:#aaa;stroke-dasharray:4 3}"
)


def draw(comparison: Comparison) -> str:
    """An SVG: one row for the stem, for each block and for the head; marks name the differences.

    Blocks that are alike and bear no mark are drawn as one row. Raises nothing: of a candidate that
    does not run, the part before the crash is drawn.
    """
    marks = _marks(comparison)
    rows = [
        (row.candidate, row.reference, sorted({m for place, m in marks if _belongs(place, row)}))
        for row in comparison.rows
    ]
    placed = {mark for *_, marked in rows for mark in marked}
    if loose := sorted({mark for _, mark in marks} - placed):
        rows.append(("the whole network", "", loose))
    drawn = [
        (key, len(list(group)))
        for key, group in groupby(rows, key=lambda row: (*row[:2], tuple(row[2])))
    ]
    return _svg(comparison, drawn)


def _rows(
    candidate: Structure | None, reference: Structure, sides: SideBySide | None
) -> tuple[Row, ...]:
    """Both networks in words, which hold no weights."""
    one = candidate or Structure([], [], [], "")
    pairs = sides.units if sides else [(None, unit) for unit in reference.units]
    blocks = [
        Row(
            one.name(mine) if mine else "",
            _block(mine),
            _block(other),
            _places(mine.layers if mine else []),
        )
        for mine, other in pairs
    ]
    stem, head = (
        Row(name, _row_words(nodes), _row_words(others), _places(nodes))
        for name, nodes, others in (
            ("stem", one.stem, reference.stem),
            ("head", one.head, reference.head),
        )
    )
    return (stem, *blocks, head)


def _places(nodes: list[Node]) -> frozenset[str]:
    return frozenset(place for node in nodes for place in (node.place, node.label))


def _marks(comparison: Comparison) -> list[tuple[str, tuple[str, str]]]:
    """(place, (kind, harm)) of every place of every difference."""
    return [
        (place, (difference.kind, difference.harm))
        for difference in comparison.differences
        for place in (difference.places or ("",))
    ]


def _belongs(place: str, row: Row) -> bool:
    path = place.partition(" (")[0].partition(" to ")[0]
    inside = any(own == path or own.startswith(f"{path}.") for own in row.places)
    return place in row.places or (bool(path) and (path == row.name or inside))


def _row_words(nodes: list[Node]) -> str:
    return ", ".join(_operation(node) for node in nodes if node.kind not in ("pad", "slice"))


def _operation(node: Node) -> str:
    if node.kind != "conv":
        return node.words
    kernel, stride = node.settings["kernel"], node.settings["stride"]
    size = "x".join(map(str, kernel)) + (f"/{stride[0]}" if max(stride) > 1 else "")
    return f"{size} conv {node.settings['out']}"


def _block(unit: Unit | None) -> str:
    if unit is None:
        return ""
    convs = ", ".join(_operation(node) for node in unit.convs)
    shortcut = unit.shortcut_kind
    return f"{convs}; shortcut: {shortcut}" if shortcut != "none" else f"{convs}; no shortcut"


def _svg(
    comparison: Comparison,
    rows: list[tuple[tuple[str, str, tuple[tuple[str, str], ...]], int]],
) -> str:
    height = TOP + ROW * (len(rows) + 1)
    full = 2 * WIDTH + GAP + 300
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{full}" height="{height}" '
        f'viewBox="0 0 {full} {height}" role="img">',
        f"<title>{escape(comparison.candidate)} beside {escape(comparison.reference)}</title>",
        f"<style>{_STYLE}</style>",
        _text(10, 24, f"candidate: {comparison.candidate}", "title"),
        _text(WIDTH + GAP, 24, f"reference: {comparison.reference}", "title"),
        _text(10, 44, f"verdict: {comparison.verdict}"),
        *_legend({difference.harm for difference in comparison.differences}),
    ]
    for number, ((left, right, marks), count) in enumerate(rows):
        y = TOP + ROW * number
        for x, words in ((10, left), (WIDTH + GAP, right)):
            kind = "box" if words else "lost"
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{WIDTH}" height="{ROW - 4}"/>'
            )
            times = f"{count} blocks: " if count > 1 else ""
            parts.append(_text(x + 6, y + 13, _short(times + words) if words else ""))
        if marks:
            worst = min(marks, key=lambda mark: list(COLOURS).index(mark[1]))[1]
            parts.append(
                f'<rect x="4" y="{y}" width="4" height="{ROW - 4}" fill="{COLOURS[worst]}"/>'
            )
            words = ", ".join(kind for kind, _ in marks)
            parts.append(_text(2 * WIDTH + GAP + 20, y + 13, words, colour=COLOURS[worst]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(harms: Collection[str]) -> list[str]:
    """What the colours mean that stand in the picture."""
    parts, y = [], 14
    for harm, words in HARMS.items():
        if harm in harms:
            x = 2 * WIDTH + GAP + 20
            parts += [
                f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLOURS[harm]}"/>',
                _text(x + 16, y + 9, words, colour=COLOURS[harm]),
            ]
            y += 16
    return parts


def _short(words: str, limit: int = 74) -> str:
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _text(x: int, y: int, words: str, kind: str = "", colour: str = "") -> str:
    style = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{style}>{escape(words)}</text>'
