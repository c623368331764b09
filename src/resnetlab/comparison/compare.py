"""The candidate against the reference: trace both, lay them side by side, prove what is equal."""

from __future__ import annotations

import contextlib
import copy
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from math import log2
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from resnetlab.arguments import check_types
from resnetlab.comparison.candidate import build, origin_of, own_settings
from resnetlab.comparison.faults import (
    Cause,
    check_gradients,
    check_initialisation,
    check_output,
    check_ownership,
    check_precision,
    check_single_image,
    check_sizes,
    check_training,
    explain_crash,
)
from resnetlab.comparison.layers import Pairs, align
from resnetlab.comparison.operations import Node, adds_itself, conv_settings
from resnetlab.comparison.proof import Proof, check_backward, check_gradient_mode
from resnetlab.comparison.report import Comparison, Findings, Row, Verdict
from resnetlab.comparison.rules import SideBySide, compare_structures, distance
from resnetlab.comparison.structure import GROWING, Structure, Unit, parse, parse_before
from resnetlab.comparison.trace import Trace, trace_network
from resnetlab.errors import UserError
from resnetlab.models.architecture import ARCHITECTURES, Architecture, get_architecture
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
        trace = first_run(model, image_size, in_channels, num_classes, found)
        plan = choose_reference(model, trace, reference, name, image_size, num_classes)
        return _Run(model, name, trace, found, reference is not None, *plan).compare(image_size)


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
    found: Findings
    named: bool
    """whether the user chose the reference"""
    reference_name: str
    reference: ResNet

    def compare(self, image_size: int | None) -> Comparison:
        own, output = self._reference_structure(), self.trace.output
        self.found.style = self.reference.architecture.activation
        sides, difference, far, deltas = None, None, 0.0, ()
        if output is not None:
            parsed = self._parse(output)
            sides = compare_structures(parsed, own, self.found)
            difference = self._check(own)
            lost = self.found.count("discarded-output") + self.found.count("left-out")
            if lost and (not self.named or len(parsed.units) + lost == len(own.units)):
                self.found.drop("depth")  # it has the blocks, or they did not count for the choice
            far, deltas = distance(output, sides, own), _count(self.model, sides.operations)
        elif parsed := parse_before(self.trace.nodes, self.block):
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
        if far > STRANGE and not self.found.kinds() & {"block", "discarded-output", "left-out"}:
            self._judge_family(far)
        differences = self.found.differences()
        networks = (self.model, self.reference)
        keys = [[(k, v.shape) for k, v in net.state_dict().items()] for net in networks]
        counts = [sum(p.numel() for p in net.parameters()) for net in networks]
        equal: Verdict = "identical" if keys[0] == keys[1] else "equivalent"
        return Comparison(
            verdict="different" if differences else equal,
            candidate=self.name,
            reference=self.reference_name,
            differences=differences,
            distance=round(far, 3),
            parameters=counts[0],
            reference_parameters=counts[1],
            parameter_differences=deltas,
            max_output_difference=difference,
            image_size=self.size,
            in_channels=self.channels,
            notes=tuple(self.found.notes),
            rows=_rows(parsed, own, sides),
        )

    @property
    def size(self) -> int:
        return self.trace.images.shape[-1]

    @property
    def channels(self) -> int:
        return self.trace.images.shape[1]

    @property
    def block(self) -> int:
        """Convolutions in a block of the reference."""
        return 2 if self.reference.architecture.block == "basic" else 3

    def _parse(self, output: Node) -> Structure:
        """The candidate's structure; without shortcuts, its style is the reference's."""
        record = self.reference.architecture
        parsed = parse(output, block_convs=self.block)
        if parsed.units and record.shortcut != "none":
            return parsed
        return parse(output, block_convs=self.block, style=record.activation)

    def _reference_structure(self) -> Structure:
        record = self.reference.architecture
        small = max(record.minimum_size, 96 if record.stem != "cifar" else 32)
        device = next(self.reference.parameters()).device  # meta, if it holds no weights
        images = torch.empty(2, record.in_channels, small, small, device=device)
        trace = trace_network(self.reference, images)
        assert trace.output is not None, trace.crash
        return parse(trace.output, block_convs=self.block, style=record.activation)

    def _check(self, own: Structure) -> float | None:
        """Everything but structure, and the proof where nothing stands against it."""
        model, trace, found = self.model, self.trace, self.found
        check_initialisation(trace.live(), found)
        self._check_repeated_input()
        check_output(trace, found)
        other_size = check_sizes(model, trace, found)
        check_single_image(model, trace, found)
        small, second = (32, 24) if self.reference.architecture.stem == "cifar" else (64, 32)
        small = min(self.size, small) if other_size else self.size
        training = self._train(small)
        if training.crash and small != self.size:
            small = self.size
            training = self._train(small)
        check_gradients(training, found)
        check_precision([trace, training], found)
        check_ownership(model, [trace, training], found)
        check_training(trace, training, found)
        check_gradient_mode(model, trace, training, found)
        if low := ", ".join(sorted(trace.precision - {"float32"})):
            found.note(f"The network computes in {low}; it is compared in double precision.")
        before = found.kinds()
        if not before <= HARMLESS:
            if not training.crash:
                check_backward(model, training.images, found)
            return None
        assert trace.logits is not None
        proof = Proof(model, self.reference, own, trace.logits.shape[-1], found)
        sizes = (small, min(second, small)) if other_size else (small,)
        difference = proof.run(sizes, self.channels)
        if difference is None and not before:
            found.add("function", "weights", "forward")
        return difference

    def _train(self, size: int) -> Trace:
        return trace_network(self.model, torch.randn(4, self.channels, size, size), training=True)

    def _judge_family(self, far: float) -> None:
        """Say first that the candidate is none of the papers', if no reference is near it."""
        name, output = self.reference_name, self.trace.output
        assert output is not None
        if self.named:  # another reference may be near
            name, record = nearest(guess_fields(parse(output), None), self.name)
            other = replace(self, reference=on_meta(replace(record, in_channels=self.channels)))
            own = other._reference_structure()
            parsed = parse(output, block_convs=other.block)
            far = distance(output, compare_structures(parsed, own, Findings()), own)
        if far > STRANGE:
            words = {"nearest": name, "distance": f"{far:.2f}"}
            self.found.add("not-a-resnet", "far", "the network", **words)  # type: ignore[arg-type]

    def _check_repeated_input(self) -> None:
        first = next((n for n in self.trace.live() if n.kind == "conv"), None)
        if first is not None and first.settings["in"] != self.channels:
            words = {"taken": first.settings["in"], "channels": self.channels}
            self.found.add("repeated-input", "own", first.label, "conv1", node=first, **words)


def _explain_small_stem(found: Findings, size: int) -> None:
    left = -(-size // 4)
    for (kind, _), group in found.found.items():
        if kind == "stem":
            group.remedy = (
                f"at {size} pixels the ImageNet stem leaves {left} x {left}: take a 3x3 "
                "convolution of stride 1 and no max pool."
            )


def _count(model: nn.Module, pairs: Pairs) -> tuple[tuple[str, int], ...]:
    """Layers whose parameters differ in number; together they make up the whole difference."""
    rest = {name: p.numel() for name, p in model.named_parameters()}
    rows = Counter[str]()
    for mine, other in _without_equals(pairs):
        place = mine.label if mine else f"(reference) {other.place if other else ''}"
        rows[place] += sum(rest.pop(name, 0) for name in (mine.names if mine else ()))
        rows[place] -= sum(t.numel() for t in (other.tensors[:2] if other else ()) if t is not None)
    for name, size in rest.items():  # in no layer of the structure: gates, unused layers
        rows[name.rpartition(".")[0] or name] += size
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


def _rows(
    candidate: Structure | None, reference: Structure, sides: SideBySide | None
) -> tuple[Row, ...]:
    """Both networks in words, which hold no weights."""
    one = candidate or Structure([], [], [], "")
    pairs = sides.units if sides else [(None, unit) for unit in reference.units]
    blocks = [
        Row(one.name(a) if a else "", _block(a), _block(b), _places(a.layers if a else []))
        for a, b in pairs
    ]
    ends = (("stem", one.stem, reference.stem), ("head", one.head, reference.head))
    stem, head = (Row(name, _row_words(a), _row_words(b), _places(a)) for name, a, b in ends)
    return (stem, *blocks, head)


def _places(nodes: list[Node]) -> frozenset[str]:
    return frozenset(place for node in nodes for place in (node.place, node.label))


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


def unwrap(model: nn.Module) -> nn.Module:
    """The network without torch.compile around it or its parts."""
    model = getattr(model, "_orig_mod", model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "_orig_mod"):
                setattr(module, name, child._orig_mod)
    return model


def refuse(model: nn.Module) -> None:
    """Raise UserError for what cannot be looked into: compiled to TorchScript, or not 2-D."""
    kinds = [type(module) for module in model.modules()]
    why = ""
    if any(issubclass(kind, torch.jit.ScriptModule) for kind in kinds):
        why = "is compiled to TorchScript (torch.jit.trace or script), which hides its modules; "
        why += "give the network itself, before it is compiled."
    for odd, word in ((nn.Conv1d, "1-D (signals)"), (nn.Conv3d, "3-D (volumes)")):
        if odd in kinds and nn.Conv2d not in kinds:
            why = f"is {word}: its convolutions are nn.{odd.__name__}; compare looks at networks "
            why += "for images."
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        why = "has its weights on the device meta, which holds no values; build it on the CPU."
    if why:
        raise UserError(f"the network {why}")


def fill_lazy_layers(model: nn.Module, size: int, channels: int, found: Findings) -> None:
    """Run the model once if it has lazy layers, which cannot be copied before they have shapes.

    Those that the pass does not reach become empty.
    """
    kinds = (UninitializedParameter, UninitializedBuffer)
    if not any(isinstance(x, kinds) for x in (*model.parameters(), *model.buffers())):
        return
    with torch.no_grad(), contextlib.suppress(Exception):  # ``first_run`` reports it
        model.eval()(torch.randn(2, channels, size, size))
    for tensor in (*model.parameters(), *model.buffers()):
        if isinstance(tensor, kinds):
            tensor.materialize((0,))
            found.note("Lazy layers that are not reached have no shape, and are not counted.")


def first_run(
    model: nn.Module,
    image_size: int | None,
    in_channels: int | None,
    classes: int | None,
    found: Findings,
) -> Trace:
    """A trace at the size and the channels that the stem is made for; reports a crash."""
    channels, size = in_channels or 3, image_size or 32

    def run(size: int) -> Trace:
        return trace_network(model, torch.randn(2, channels, size, size), classes=classes)

    trace = run(size)
    cause = explain_crash(trace.crash, size) if trace.crash else Cause("crash", "")
    early = not any(node.kind == "conv" for node in trace.nodes)
    if trace.crash and cause.kind == "in-channels":
        channels = trace.crash.shapes[1][1]
        if in_channels is not None:
            found.add("in-channels", cause.what, trace.crash.place, remedy=cause.remedy)
        trace = run(size)
    elif trace.crash and in_channels is None and early:
        first_conv = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        for channels in (first_conv.in_channels if first_conv else 3, 1):
            # it may refuse the image itself, or repeat a grey one
            if channels not in (0, 3) and not run(size).crash:
                break
        else:
            channels = 3
        trace = run(size)
    first = next((n for n in trace.nodes if n.kind == "conv"), None)
    large = first is None or first.settings["kernel"][0] >= 7 or first.settings["stride"][0] > 1
    pooled = any(n.kind in ("maxpool", "avgpool") for n in trace.nodes[:6])
    if image_size is None and (large or pooled):
        size = 224
        trace = run(size)
    return _report_crash(run, trace, size, found) if trace.crash else trace


def _report_crash(run: Callable[[int], Trace], trace: Trace, size: int, found: Findings) -> Trace:
    """Say why a network does not run; the trace of another size, if it is bound to that."""
    crash = trace.crash
    assert crash is not None
    cause, place, line = explain_crash(crash, size), crash.label, crash.location
    if cause.kind in ("fixed-size", "head-shape"):
        for other in (224, 32, 64, 96, 128, 28, 256):
            again = run(other) if other != size else trace
            if not again.crash:
                text = f"{cause.what} It runs at {other} pixels."
                found.add("fixed-size", text, place, line=line)
                return again
    head = cause.kind == "fixed-size" and cause.sentence == "features"
    kind, place = "head-shape" if head else cause.kind, cause.place or place
    line = line if cause.node is None else None
    found.add(kind, cause.what, place, remedy=cause.remedy, node=cause.node, line=line)
    return trace


SMALL_IMAGE = 48
"""Pixels: up to here the ImageNet stem throws most of the picture away."""

PAPERS = [name for name, record in ARCHITECTURES.items() if record.transition == "block"]
"""What a candidate may mean to be."""

Stage = tuple[int, int, int]
"""(blocks, channels, inner channels)"""


def guess_fields(structure: Structure, image_size: int | None) -> dict[str, Any]:
    """The fields of an ``Architecture`` that most of the structure's blocks speak for.

    ``image_size``: pixels that the user asked for; small ones call for the CIFAR stem.
    """
    units = [unit for unit in structure.units if unit.convs]
    middle = [unit.convs[1] for unit in units if len(unit.convs) == 3]
    bottleneck = 2 * len(middle) > len(units)
    strides = [[max(conv.settings["stride"]) > 1 for conv in unit.convs] for unit in units]
    strided = [row.index(True) for row in strides if any(row)]
    return {
        "block": "bottleneck" if bottleneck else "basic",
        "stages": [_stages(units, sizes) for sizes in (True, False)],
        "groups": _majority(node.settings["groups"] for node in middle) if middle else 1,
        "stem": _stem(structure.stem, image_size),
        "shortcut": _shortcut(units, structure),
        "stride_on": "1x1" if bottleneck and _majority(strided or [1]) == 0 else "3x3",
        "activation": structure.style,
        "runs": True,
    }


def _majority(values: Any) -> Any:
    return Counter(values).most_common(1)[0][0]


def _stages(units: list[Unit], sizes: bool) -> list[Stage]:
    """Each run of units with the same channels (and size)."""
    shapes = [unit.convs[-1].shape[1 : None if sizes else 2] for unit in units]
    stages = [list(run) for _, run in groupby(range(len(units)), key=shapes.__getitem__)]
    outputs = [unit.convs[-1].settings["out"] for unit in units]
    inner = [unit.convs[len(unit.convs) > 2].settings["out"] for unit in units]
    return [(len(run), outputs[run[0]], _majority(inner[i] for i in run)) for run in stages]


def _stem(stem: list[Node], image_size: int | None) -> str:
    convs = [node for node in stem if node.kind == "conv"]
    if len(convs) >= 3:
        return "deep"
    if image_size is not None and image_size <= SMALL_IMAGE:
        return "cifar"
    votes = any(node.kind in ("maxpool", "avgpool") for node in stem)
    if convs:
        votes += convs[0].settings["kernel"][0] >= 5
        votes += convs[0].settings["stride"][0] > 1
    return "imagenet" if votes >= 2 else "cifar"


def _shortcut(units: list[Unit], structure: Structure) -> str:
    """A, B or D from the blocks that change the shape; 'none' if nothing is added anywhere.

    Never C: a projection where the paper's B has an identity is a finding, not a choice.
    """
    kinds = Counter(unit.shortcut_kind for unit in units)
    if kinds["none"] == len(units):
        # A tensor added to itself means to be the shortcut.
        return "B" if any(adds_itself(node) for node in structure.layers) else "none"
    if kinds["pooled projection"]:
        return "D"
    shortcuts = [{node.kind for node in unit.shortcut or []} for unit in units]
    padded = sum(bool(row & GROWING) and "conv" not in row for row in shortcuts)
    return "A" if padded > kinds["projection"] else "B"


def nearest(
    fields: dict[str, Any], name: str, image_size: int | None = None
) -> tuple[str, Architecture]:
    """The closest name of the table and its record with the legitimate choices taken over.

    Legitimate: stem, shortcut A, B or D, v1 or v1.5, the order of 2015 or of 2016. ``name`` of the
    class or factory settles ties, and whether a net without additions means to be residual.
    """
    fields = dict(fields)
    residual = "res" in name.lower() and "plain" not in name.lower()
    if fields["shortcut"] == "none" and residual:
        fields["shortcut"] = "B"
    best = min(PAPERS, key=lambda key: _distance(key, ARCHITECTURES[key], fields, name))
    record = ARCHITECTURES[best]
    changes = {"activation": fields["activation"]}
    if fields["shortcut"] not in (None, "none") and record.shortcut != "none":
        changes["shortcut"] = fields["shortcut"]
    if record.block == "bottleneck" and fields["block"] == "bottleneck":
        changes["stride_on"] = fields["stride_on"]
    big = image_size is not None and image_size >= 128 and record.widths[0] >= 64
    changes["stem"] = "imagenet" if big and fields["stem"] == "cifar" else fields["stem"]
    return best, replace(record, **changes)


def _distance(key: str, record: Architecture, fields: dict[str, Any], name: str) -> float:
    outs, inner = record.stage_outputs, map(record.inner_width, record.widths)
    expected = list(zip(record.depths, outs, inner, strict=True))
    cost = min(_stage_cost(stages, expected) for stages in fields["stages"])
    for field, weight in (("block", 12), ("groups", 3), ("activation", 1), ("stride_on", 0.2)):
        cost += weight * (fields[field] != getattr(record, field))
    cost += 6 * ((fields["shortcut"] == "none") != (record.shortcut == "none"))
    cost += 0.2 * (fields["shortcut"] not in (None, record.shortcut))
    cost += 0.3 * (fields["stem"] != record.stem)
    built = max(sum(blocks for blocks, *_ in stages) for stages in fields["stages"])
    unbuilt = not fields["runs"] and 2 * built < sum(record.depths)
    return cost - (24 if unbuilt else 1.5) * _names(name, key) + 0.001 * len(key)


def _stage_cost(candidate: list[Stage], expected: list[Stage]) -> float:
    """Stages laid side by side; widths count by their ratio to the reference's."""

    def cost(scale: float) -> float:
        def pair(mine: Stage, other: Stage) -> float:
            blocks = min(abs(mine[0] - other[0]), 8) * (1 if mine[0] > 1 or other[0] < 3 else 0.8)
            width = min(1.0, abs(log2(mine[1] / scale / other[1])))
            inner = min(1.0, abs(log2(mine[2] / mine[1] * other[1] / other[2])))
            return blocks + 3 * width + 3 * inner

        pairs = align(candidate, expected, pair, lambda stage: 6.0)
        total = 6.0 * sum(a is None or b is None for a, b in pairs)
        return total + sum(pair(a, b) for a, b in pairs if a is not None and b is not None)

    if not candidate:
        return 6.0 * len(expected)
    scales = {1.0, candidate[0][1] / expected[0][1]}
    scales.add(median(s[1] for s in candidate) / median(s[1] for s in expected))
    return min(cost(scale) + min(2.0, abs(log2(scale))) for scale in scales)


def _names(name: str, key: str) -> bool:
    """Whether a class's name ends with the number of layers in the table's name."""
    layers = re.search(r"\d+", key)
    return layers is not None and re.search(rf"(?<!\d){layers[0]}\D*$", name) is not None


def guess_fields_unrun(model: nn.Module, nodes: list[Node]) -> dict[str, Any]:
    """As ``guess_fields`` for a network that does not run; ``nodes``: what ran before the crash.

    What it plans counts where that is more: the modules that hold a 4-D weight, in order.
    """
    convs = [node.settings for node in nodes if node.kind == "conv"]
    planned = list[dict[str, Any]]()
    for module in model.modules():
        held = [vars(module).get(name) for name in ("stride", "s", "strides")]
        stride = next((value for value in held if isinstance(value, (int, tuple))), 1)
        weights = [weight for weight in module.parameters(recurse=False) if weight.dim() == 4]
        planned += [conv_settings(weight, stride, 0) for weight in weights]
    convs = planned if len(planned) > len(convs) else convs
    pointwise = [conv for conv in convs if max(conv["kernel"]) == 1]
    bottleneck = 2 * len(pointwise) > len(convs)
    strided = [conv for conv in convs[1:] if max(conv["stride"]) > 1]
    widths = Counter(conv["out"] for conv in convs[1:] if conv not in pointwise)  # without the stem
    v1 = bool(strided) and all(conv in pointwise for conv in strided)
    per_block, wider = (1, 4) if bottleneck else (2, 1)
    stages = [(-(-count // per_block), width * wider, width) for width, count in widths.items()]
    return {
        "block": "bottleneck" if bottleneck else "basic",
        "stages": [stages],
        "groups": 1,
        "stem": "imagenet" if not convs or max(convs[0]["kernel"]) > 3 else "cifar",
        "shortcut": "B" if pointwise else None,
        "stride_on": "1x1" if bottleneck and v1 else "3x3",
        "activation": "post",
        "runs": False,
    }


def choose_reference(
    model: nn.Module,
    trace: Trace,
    reference: ResNet | Architecture | str | None,
    name: str,
    image_size: int | None,
    num_classes: int | None,
) -> tuple[str, ResNet]:
    """The reference's name and network: the named one, or the closest of the table.

    It holds no weights, as it takes over the candidate's, unless the user has given it.
    """
    channels = trace.images.shape[1]
    if isinstance(reference, ResNet):
        return "the given network", copy.deepcopy(reference).cpu().float()
    if isinstance(reference, Architecture):
        return "the given network", on_meta(reference)
    if reference is not None:
        key, record = reference, replace(get_architecture(reference), in_channels=channels)
        if image_size and image_size <= SMALL_IMAGE and record.stem == "imagenet":
            record = replace(record, stem="cifar")
        record = replace(record, num_classes=num_classes or record.num_classes)
    elif trace.output is None:
        key, record = nearest(guess_fields_unrun(model, trace.nodes), name)
        record = replace(record, in_channels=channels)
    else:
        parsed = parse(trace.output)
        key, record = nearest(guess_fields(parsed, image_size), name, image_size)
        classes = num_classes or record.num_classes
        if any(node.kind in ("linear", "conv") for node in parsed.head):
            classes = num_classes or _classes(model, trace) or record.num_classes
        record = replace(record, in_channels=channels, num_classes=classes)
    return _words(key, record), on_meta(record)


def _classes(model: nn.Module, trace: Trace) -> int | None:
    """How many classes the candidate means to tell apart: by its own word, or its logits."""
    own = getattr(model, "num_classes", None)
    if isinstance(own, int) and own > 0:
        return own
    flat = trace.logits is not None and trace.logits.dim() == 2
    return origin_of(model).classes or (trace.logits.shape[-1] if flat else None)  # type: ignore[union-attr]


def _words(name: str, record: Architecture) -> str:
    shown = ("stem", "shortcut", "stride_on", "activation", "in_channels", "num_classes")
    own, table = ({key: getattr(r, key) for key in shown} for r in (record, get_architecture(name)))
    changed = [f"{key}={value}" for key, value in own.items() if value != table[key]]
    return f"{name} ({', '.join(changed)})" if changed else name
