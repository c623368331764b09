"""The candidate against the reference: trace both, lay them side by side, prove what is equal."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from resnetlab.comparison.faults import (
    check_gradients,
    check_initialisation,
    check_output,
    check_ownership,
    check_single_image,
    check_sizes,
    check_training,
)
from resnetlab.comparison.kinds import PAGE, Difference, Findings
from resnetlab.comparison.layers import Pairs
from resnetlab.comparison.nearest import SMALL_IMAGE, choose_reference, guess_fields, nearest
from resnetlab.comparison.operations import Node
from resnetlab.comparison.proof import Proof
from resnetlab.comparison.rules import SideBySide, common_ratio, compare_structures
from resnetlab.comparison.running import fill_lazy_layers, first_run, refuse, unwrap
from resnetlab.comparison.structure import Structure, parse
from resnetlab.comparison.target import build, origin_of, own_settings
from resnetlab.comparison.trace import Trace, trace_network
from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.models.summary import on_meta

HARMLESS = {"init", "single-image", "fixed-size", "output", "auxiliary-output"}
"""Kinds that leave the function as it is, so that the proof is tried all the same."""
STRANGE = 0.5
"""From this distance on a network is none of the papers'."""
TELLING = 5
"""Differences shown of a network that is none of the papers'."""


@dataclass(frozen=True)
class Comparison:
    """What ``compare_models`` found."""

    verdict: Literal["identical", "equivalent", "different"]
    """identical: also the state dict's keys, order and shapes; equivalent: the same function,
    gradients and running statistics; different: there are differences"""
    candidate: str
    """name of the class or factory"""
    reference: str
    """the reference's name and, in brackets, the fields that differ from the table's"""
    differences: tuple[Difference, ...]
    """in the order of harm"""
    distance: float
    """from the reference: 0 if every layer has its partner, 1 if none has"""
    parameters: int
    """the candidate's"""
    reference_parameters: int
    parameter_differences: tuple[tuple[str, int], ...]
    """(place, candidate's minus reference's) of every layer where the counts differ"""
    max_output_difference: float | None
    """over eval and train mode, relative to the reference's largest output; None: not compared"""
    image_size: int
    in_channels: int
    notes: tuple[str, ...]
    """what is worth knowing and no difference"""
    structures: tuple[Structure | None, Structure, SideBySide | None] = field(
        repr=False, compare=False
    )
    """candidate, reference and their pairs, for the diagram"""

    @property
    def is_resnet(self) -> bool:
        """Whether the candidate is near enough to one of the papers' networks."""
        return all(difference.kind != "not-a-resnet" for difference in self.differences)

    @property
    def telling(self) -> tuple[Difference, ...]:
        """All differences; of a network that is none of the papers' the first few."""
        if self.is_resnet:
            return self.differences
        rest = sorted(self.differences[1:], key=lambda d: -len(d.places))[:TELLING]
        return (self.differences[0], *(d for d in self.differences if d in rest))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the names of kinds and fields are promised."""
        values = {k: v for k, v in vars(self).items() if k not in ("structures", "differences")}
        values["differences"] = [
            asdict(d) | {"where": d.where, "harm": d.harm, "paper": d.paper, "page": d.page}
            for d in self.differences
        ]
        values["identical_or_equivalent"] = self.verdict != "different"
        values["is_resnet"] = self.is_resnet
        values["documentation"] = PAGE
        return values


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
    found = Findings(defined=origin.lines)
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
        sides, parsed = None, None
        difference = None
        if self.trace.output is not None:
            parsed = parse(self.trace.output, block_convs=self.block)
            if not parsed.units or record.shortcut == "none":
                parsed = parse(self.trace.output, block_convs=self.block, style=record.activation)
            sides = compare_structures(parsed, own, self.found)
            difference = self._check(own)
        else:
            parsed = _before_the_crash(self.trace, self.block)
            if parsed is not None:
                part = Structure(own.stem, own.units[: len(parsed.units)], [], own.style)
                parsed.head = []
                sides = compare_structures(parsed, part, self.found)
        if image_size and image_size <= SMALL_IMAGE:
            _explain_small_stem(self.found, image_size)
        distance = _distance(self.trace, sides, own) if self.trace.output is not None else 0.0
        if distance > STRANGE and "block" not in self.found.kinds():
            self._judge_family(distance)
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
            distance=round(distance, 3),
            parameters=counts[0],
            reference_parameters=counts[1],
            parameter_differences=()
            if sides is None or self.trace.output is None
            else _count(self.model, sides.operations),
            max_output_difference=difference,
            image_size=self.size,
            in_channels=self.channels,
            notes=tuple(self.found.notes),
            structures=(parsed, own, sides),
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
        trace = trace_network(self.reference, torch.randn(2, record.in_channels, small, small))
        assert trace.output is not None, trace.crash
        return parse(trace.output, block_convs=self.block, style=record.activation)

    def _check(self, own: Structure) -> float | None:
        """Everything but structure, and the proof where nothing stands against it."""
        trace, found = self.trace, self.found
        check_initialisation(trace.live(), found)
        self._check_repeated_input()
        check_output(trace, found)
        other_size = check_sizes(self.model, self.size, self.channels, trace, found)
        check_single_image(self.model, self.size, self.channels, trace, found)
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
        check_ownership(self.model, [trace, training], found)
        check_training(trace, training, found)
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
            text = "the layers pair, but their weights do not: nothing could be compared."
            found.add("function", text, "forward")
        return difference

    def _judge_family(self, distance: float) -> None:
        """Say first that the candidate is none of the papers', if no reference is near it."""
        nearest_name = self.reference_name
        if self.named and self.trace.output is not None:  # another reference may be near
            parsed = parse(self.trace.output)
            key, record = nearest(guess_fields(parsed, None), self.name)
            record = replace(record, in_channels=self.channels)
            other = replace(self, reference=on_meta(record).to_empty(device="cpu"))
            own = other._reference_structure()
            parsed = parse(self.trace.output, block_convs=other.block)
            sides = compare_structures(parsed, own, Findings())
            distance, nearest_name = _distance(self.trace, sides, own), key
        if distance > STRANGE:
            text = f"this is not a ResNet of the papers; the nearest is {nearest_name}, at a "
            text += f"distance of {distance:.2f} (0: every layer has its partner, 1: none has)."
            self.found.add("not-a-resnet", text, "the network")

    def _check_repeated_input(self) -> None:
        first = next((n for n in self.trace.live() if n.kind == "conv"), None)
        taken = first.settings["in"] if first is not None else self.channels
        if first is not None and taken != self.channels:
            text = f"the network makes {taken} channels of an image of {self.channels} itself."
            self.found.add("repeated-input", text, first.label, "conv1", node=first)


def _before_the_crash(trace: Trace, block: int) -> Structure | None:
    """The part of the network that ran: up to the last complete unit."""
    last = [n for n in trace.nodes if n.kind in ("add", "maxpool")]
    if not last:
        return None
    end = last[-1].index
    followers = [n for n in trace.nodes[end + 1 : end + 2] if n.kind in ("relu", "act")]
    parsed = parse(followers[0] if followers else last[-1], block_convs=block)
    if not parsed.units:
        parsed.stem += parsed.head  # a max pool at the end
    return parsed


def _explain_small_stem(found: Findings, size: int) -> None:
    for (kind, _), group in found.found.items():
        if kind == "stem":
            left = -(-size // 4)
            group.remedy = (
                f"at {size} pixels the ImageNet stem leaves {left} x {left}: take a 3x3 "
                "convolution of stride 1 and no max pool."
            )


def _distance(trace: Trace, sides: SideBySide | None, own: Structure) -> float:
    """Convolutions and additions without partner, as a share of all."""
    mine = [n for n in trace.live(every_head=False) if n.kind in ("conv", "add")]
    other = [n for n in own.layers if n.kind == "conv"]
    joined = sum(unit.merge is not None for unit in own.units)
    pairs: Pairs = sides.operations if sides else []
    ratio = common_ratio(sides.units) if sides else 1
    partners = 0.0
    for x, y in pairs:
        if x is None or y is None or not x.kind == y.kind == "conv":
            continue
        one, two = x.settings, y.settings
        wide = one["out"] not in (two["out"], ratio * two["out"])
        odd = (one["kernel"] != two["kernel"]) + (one["groups"] != two["groups"])
        partners += max(0.0, 1 - 0.5 * wide - 0.4 * odd)
    added = sum(
        x is not None and y is not None and x.merge is not None and y.merge is not None
        and x.merge.kind == "add" == y.merge.kind
        for x, y in (sides.units if sides else [])
    )  # fmt: skip
    total = len(mine) + len(other) + joined
    return 1 - 2 * (partners + added) / total if total else 1.0


def _count(model: nn.Module, pairs: Pairs) -> tuple[tuple[str, int], ...]:
    """Layers whose parameters differ in number; together they make up the whole difference."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    rest, rows = dict(sizes), dict[str, int]()

    def elements(node: Node | None) -> int:
        names = node.names if node else ()
        return sum(rest.pop(name, 0) for name in names)

    for mine, other in pairs:
        reference = sum(t.numel() for t in other.tensors[:2] if t is not None) if other else 0
        place = mine.label if mine else f"(reference) {other.place if other else ''}"
        rows[place] = rows.get(place, 0) + elements(mine) - reference
    for name, size in rest.items():  # in no layer of the structure: gates, unused layers
        owner = name.rpartition(".")[0] or name
        rows[owner] = rows.get(owner, 0) + size
    return tuple((place, delta) for place, delta in rows.items() if delta)
