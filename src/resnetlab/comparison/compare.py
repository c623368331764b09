"""A stranger's ResNet against the reference: trace both, lay them side by side, try the outputs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resnetlab.comparison.checks import (
    check_initialisation,
    check_ownership,
    check_training,
    live_nodes,
)
from resnetlab.comparison.differences import compare_structures
from resnetlab.comparison.findings import Difference, Findings
from resnetlab.comparison.nearest import SMALL_IMAGE, guess_fields, nearest, nearest_by_layers
from resnetlab.comparison.operations import Node
from resnetlab.comparison.outputs import output_difference
from resnetlab.comparison.running import (
    check_single_image,
    check_sizes,
    fill_lazy_layers,
    first_run,
)
from resnetlab.comparison.settings import Pairs
from resnetlab.comparison.structure import Structure, parse
from resnetlab.comparison.target import asked_classes, build
from resnetlab.comparison.trace import Trace, first_tensor, trace_network
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.resnet import ResNet

_SAME_FUNCTION = {"init", "fixed-size", "single-image"}
"""Differences that leave the outputs of shared weights equal at the size compared."""


@dataclass(frozen=True)
class Comparison:
    """What ``compare_models`` found."""

    verdict: Literal["identical", "equivalent", "different"]
    """identical: also the state dict's keys, order and shapes; equivalent: the same function"""
    network: str
    """name of their class"""
    reference: str
    """the reference's name and, in brackets, the fields that differ from the table's"""
    differences: tuple[Difference, ...]
    parameters: int
    """theirs"""
    reference_parameters: int
    parameter_differences: tuple[tuple[str, int], ...]
    """(place, theirs minus the reference's) of every layer where the counts differ"""
    max_output_difference: float | None
    """over eval and train mode, relative to the reference's largest output; None: not compared"""
    image_size: int
    in_channels: int
    notes: tuple[str, ...]
    """what is worth knowing and no difference"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; each difference with kind, where, what, remedy and all places."""
        values = asdict(self)
        values["differences"] = [asdict(d) | {"where": d.where} for d in self.differences]
        values["identical_or_equivalent"] = self.verdict != "different"
        return values


def compare_models(
    theirs: nn.Module | Callable[..., Any],
    ours: ResNet | Architecture | str | None = None,
    *,
    image_size: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
) -> Comparison:
    """How anybody's ResNet differs from the reference. RUNS THEIR CODE, on a copy of the network.

    ``theirs``: a network, or a class or factory that makes one. ``ours``: the reference; None finds
    the closest of the table and takes over what is a legitimate choice (stem, shortcut A, B or D,
    v1 or v1.5, order of 2015 or 2016, number of classes). A named reference is taken at its word.
    ``image_size``: pixels; None: 224 behind an ImageNet stem, else 32. At most 48 pixels call for
    the CIFAR stem. ``in_channels``: None: 3, or what their first convolution takes.
    ``num_classes``: what is expected; None: the named reference's, or theirs.

    Initialisation is a difference only if it is far from He's (see ``check_initialisation``);
    PyTorch's default is noted. So are batch norm's eps and momentum. ValueError, one sentence, for
    an unknown reference or a network that cannot be built.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1, not {image_size}.")
    model = build(theirs, num_classes=num_classes, in_channels=in_channels)
    name, asked = type(model).__name__, asked_classes(model)
    if not isinstance(theirs, nn.Module):
        name = getattr(theirs, "__name__", name)
    found = Findings()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # theirs to heed, not ours
        torch.manual_seed(0)
        fill_lazy_layers(model, image_size or 224, in_channels or 3, found)
        try:
            model = copy.deepcopy(model).cpu().float()
        except Exception:  # e.g. a stored activation; the network itself is then used
            found.note("The network cannot be copied, so the comparison used up its weights.")
        return _compare(model, name, ours, image_size, in_channels, num_classes, asked, found)


def _compare(
    model: nn.Module,
    name: str,
    ours: ResNet | Architecture | str | None,
    image_size: int | None,
    in_channels: int | None,
    num_classes: int | None,
    asked: int | None,
    found: Findings,
) -> Comparison:
    trace, size, channels = first_run(model, image_size, in_channels, found)
    named = ours.architecture if isinstance(ours, ResNet) else ours
    if isinstance(named, str):
        reference_name, record = named, get_architecture(named)
        record = replace(record, in_channels=channels)
        if image_size and image_size <= SMALL_IMAGE and record.stem == "imagenet":
            record = replace(record, stem="cifar")
        if num_classes:
            record = replace(record, num_classes=num_classes)
    elif named is not None:
        reference_name, record = "the given network", named
    elif trace.output is None:
        reference_name, record = nearest_by_layers(model, name)
        record = replace(record, in_channels=channels)
    else:
        fields = guess_fields(parse(trace.output), image_size)
        reference_name, record = nearest(fields, name, image_size)
        logits = first_tensor(trace.result)
        outputs = num_classes or asked or (logits.shape[1] if logits is not None else 0)
        outputs = getattr(model, "num_classes", None) or outputs
        if not isinstance(outputs, int) or outputs < 1:
            outputs = record.num_classes
        record = replace(record, in_channels=channels, num_classes=outputs)
    reference = ours if isinstance(ours, ResNet) else ResNet(record)
    reference = copy.deepcopy(reference).cpu().float()
    small = max(record.minimum_size, 96 if record.stem != "cifar" else 32)
    mine = trace_network(reference, torch.randn(2, record.in_channels, small, small))
    assert mine.output is not None, mine.crash
    block = 2 if record.block == "basic" else 3
    ours_parsed = parse(mine.output, block_convs=block, style=record.activation)
    pairs: Pairs = []
    difference = None
    if trace.output is not None:
        parsed = parse(trace.output, block_convs=block)
        if not parsed.units or record.shortcut == "none":
            parsed = parse(trace.output, block_convs=block, style=record.activation)
        pairs = compare_structures(parsed, ours_parsed, found)
        check_initialisation(live_nodes(trace), found)
        _check_output(trace, found)
        small_enough = check_sizes(model, size, channels, trace, found)
        check_single_image(model, size, channels, trace, found)
        at = small if small_enough and small < size else size
        training = trace_network(model, torch.randn(4, channels, at, at), training=True)
        check_ownership(model, [trace, training], found)
        check_training(trace, training, found)
        if found.kinds() <= _SAME_FUNCTION:
            difference = output_difference(model, reference, pairs, (channels, at), found)
    else:
        assert trace.crash is not None
        if parsed := _before_the_crash(trace, block):
            ours_parsed.units = ours_parsed.units[: len(parsed.units)]
            parsed.head, ours_parsed.head = [], []
            compare_structures(parsed, ours_parsed, found)
    if image_size and image_size <= SMALL_IMAGE:
        _explain_small_stem(found, image_size)
    same_keys = [(k, v.shape) for k, v in model.state_dict().items()] == [
        (k, v.shape) for k, v in reference.state_dict().items()
    ]
    equal = not found.found and difference is not None
    return Comparison(
        verdict=("identical" if same_keys else "equivalent") if equal else "different",
        network=name,
        reference=_reference_words(reference_name, record),
        differences=found.differences(),
        parameters=sum(p.numel() for p in model.parameters()),
        reference_parameters=sum(p.numel() for p in reference.parameters()),
        parameter_differences=_count(model, pairs) if pairs else (),
        max_output_difference=difference,
        image_size=size,
        in_channels=channels,
        notes=tuple(found.notes),
    )


def _check_output(trace: Trace, found: Findings) -> None:
    assert trace.output is not None
    logits = first_tensor(trace.result)
    if not isinstance(trace.result, Tensor):
        text = f"forward returns a {type(trace.result).__name__}, not a tensor of logits."
        found.add("output", text, "return the logits alone, (n, classes).", "forward")
    elif logits is not None and logits.dim() != 2:
        text = f"forward returns the shape {list(logits.shape)}, not (n, classes)."
        found.add("output", text, "flatten before the classifier.", "forward")


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


def _reference_words(name: str, record: Architecture) -> str:
    try:
        table = get_architecture(name)
    except ValueError:
        return name
    changed = [
        f"{key}={value}"
        for key, value in asdict(record).items()
        if value != getattr(table, key) and key in ("stem", "shortcut", "stride_on", "activation",
                                                     "in_channels", "num_classes")
    ]  # fmt: skip
    return f"{name} ({', '.join(changed)})" if changed else name


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
