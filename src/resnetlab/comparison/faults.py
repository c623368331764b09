"""Faults that are no matter of structure: crashes, gradients, weights, chance, sizes, outputs."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.comparison.candidate import (
    Location,
    condition_of,
    handed_on,
    line_words,
    why_left_out,
)
from resnetlab.comparison.layers import statistics_words
from resnetlab.comparison.operations import POOLS, Node, alike, behind
from resnetlab.comparison.report import Findings, a, phrase, plural
from resnetlab.comparison.structure import parse
from resnetlab.comparison.trace import Crash, Trace, trace_network

FAR = 3.0
"""An initial weight's deviation is far from the usual if it is this many times off all of them."""
FEW = 64
"""So few values have no deviation to speak of."""
LARGE_SHIFT = 0.1
"""From here on batch norm's first shift is more than a trifle."""
NORM_PAPER = "Goyal et al. 2017 (arXiv:1706.02677), 5.1: scale 1, and 0 at a branch's end alone"
SKIPPED = ("mul", "scale", "gate", "norm")
"""What may stand between the end of a branch and the addition."""


def check_initialisation(nodes: list[Node], found: Findings) -> None:
    """Compare each layer's weights with He's normal (arXiv:1502.01852), fan in and fan out.

    A deviation within ``FAR`` of He's or of PyTorch's default is no difference; PyTorch's default
    (Kaiming uniform with a = sqrt(5), 0.41 of He's) is noted. All zeros is legitimate for the last
    layer of a branch. A network that has been trained is not judged: its norms have learned; moved
    statistics alone tell of a trial forward pass.
    """
    norms = [n for n in nodes if n.kind == "norm"]
    scales = {n.index: n.weight.detach() for n in norms if n.weight is not None}
    means = [n.tensors[2] for n in norms if len(n.tensors) == 4]
    if any(bool(((s - s.flatten()[0]).abs() > 1e-3).any()) for s in scales.values()):
        found.note("The batch norms have learned: trained, so initialisation is not judged.")
        return
    if not scales and any(mean is not None and bool(mean.any()) for mean in means):
        found.note("The running statistics have moved: trained, so initialisation is not judged.")
        return
    default = judged = 0
    ends = _branch_ends(nodes)
    silent = {index for index, scale in scales.items() if not scale.any()}
    sums = [{parent.index for parent in node.inputs} for node in nodes if node.kind == "add"]
    dead = set().union(*(inputs for inputs in sums if inputs <= silent))  # shortcut and branch
    if 1 < len(silent) == len(norms) and not _passes(nodes, silent):
        _tell_dead(norms, found)
    else:
        late = _branch_ends(nodes, (*SKIPPED, "relu")) - ends
        for node in norms:
            _judge_norm(node, node.index in ends, node.index in dead, node.index in late, found)
    for node in nodes:
        if node.weight is None or node.settings.get("computed"):
            continue
        weight = node.weight.detach().float()
        if node.kind == "linear":
            _judge_classifier(node, weight, found)
        if node.kind != "conv" or weight.numel() < FEW:
            continue
        receptive = math.prod(weight.shape[2:])
        fan_in = weight.shape[1] * receptive
        fan_out = weight.shape[0] * receptive / node.settings["groups"]
        he = [math.sqrt(2 / fan_in), math.sqrt(2 / fan_out)]
        of_torch = math.sqrt(2 / (weight.shape[0] * receptive))  # knows nothing of groups
        usual = [*he, of_torch, 1 / math.sqrt(3 * fan_in)]
        std, mean = float(weight.std()), abs(float(weight.mean()))
        judged += 1
        if std == 0 and mean == 0 and node.index in ends:
            found.note("Branches end with a convolution of zeros (zero-initialised residual).")
            continue
        limit = 1 / math.sqrt(fan_in)  # of PyTorch's default
        default += abs(float(weight.abs().max()) / limit - 1) < 0.05 and std < 0.7 * limit
        if std < min(usual) / FAR or std > max(usual) * FAR or mean > max(usual):
            words = "all weights are equal" if std <= 1e-6 * mean else _times(std, he[1])
            found.add("init", "convolution", node.label, node=node, words=words)
    if judged and default > judged / 2:
        found.note(
            "The convolutions start with PyTorch's default, not with He's normal: their standard "
            "deviation is about 0.4 of He's. It trains, batch norm sees to it."
        )


def _passes(nodes: list[Node], silent: set[int]) -> bool:
    """Whether anything of the image reaches the last operation past the silent ones."""
    reached = set[int]()
    for node in nodes:
        read = any(parent.index in reached for parent in node.inputs)
        if node.kind == "input" or (read and node.index not in silent):
            reached.add(node.index)
    return nodes[-1].index in reached


def _judge_norm(node: Node, end: bool, dead: bool, late: bool, found: Findings) -> None:
    """Report a norm that does not start with scale 1 and shift 0; scale 0 may end a branch.

    ``dead``: so does its shortcut. ``late``: between it and the addition stands a ReLU.
    """
    scale, shift = (_start(tensor) for tensor in node.tensors[:2])
    line, what = _writer(node, found), ""
    if scale == 0 and late and "relu-before-addition" in found.kinds():
        found.explain(
            "relu-before-addition",
            "With its batch norm's scale of 0 in front of a ReLU such a branch never gets a "
            "gradient; behind the last batch norm, without the ReLU, that scale is a good start.",
        )
    elif scale == 0 and (dead or not end):
        what = "silent" if end else "late" if late else "scale"
    elif scale and not end and not 1 / FAR <= scale <= FAR:
        what = "factor"
    elif scale not in (None, 0, 1):
        found.note(f"Batch norms start with scale {scale:g}, at {node.label} for one; usual is 1.")
    if what:
        found.add(
            "init", what, node.label, node=node, line=line, paper=NORM_PAPER, value=f"{scale:g}"
        )
    if shift and abs(shift) >= LARGE_SHIFT:
        line = _writer(node, found, shift=True)
        found.add(
            "init", "shift", node.label, node=node, line=line, paper=NORM_PAPER, value=f"{shift:g}"
        )
    elif shift:
        found.note(f"Batch norms start with shift {shift:g}, at {node.label} for one; usual is 0.")


def _start(tensor: Tensor | None) -> float | None:
    """The value farthest from 0 of a norm's scale or shift, as far as it is exact."""
    if tensor is None or not tensor.numel():
        return None
    flat = tensor.detach().flatten()
    value = float(flat[flat.abs().argmax()])
    return round(value) if abs(value - round(value)) < 1e-3 else round(value, 3)


def _tell_dead(norms: list[Node], found: Findings) -> None:
    """Say that all batch norms start with scale 0, and where that is written."""
    shifts = {_start(node.tensors[1]) for node in norms}
    features = "the same" if shifts - {None, 0} else "0"
    swapped = len(shifts) == 1 and features != "0"
    for node in norms:
        line = _writer(node, found)
        words = {"count": len(norms), "features": features, "value": min(shifts, key=str)}
        words["paper"] = NORM_PAPER
        what = "swapped" if swapped else "dead"
        found.add("init", what, node.label, node=node, line=line, **words)  # type: ignore[arg-type]
        if swapped and (line := _writer(node, found, shift=True)):
            found.add("init", what, node.label, line=line, **words)  # type: ignore[arg-type]
        if line is None:
            found.note(
                "The line that sets the scales to 0 is not known: the network was made before "
                "compare could watch, or the parameters were replaced."
            )


SHIFTS = ("bias", "beta", "b", "shift")
"""What norms call it."""


def _writer(norm: Node, found: Findings, *, shift: bool = False) -> Location | None:
    """The line that wrote the scale of a norm last, or its shift."""
    names = [n for n in norm.names if (n.rpartition(".")[2] in SHIFTS) == shift]
    return found.written.get(names[0]) if names else None


def _branch_ends(nodes: list[Node], skipped: tuple[str, ...] = SKIPPED) -> set[int]:
    """Layers whose zeros would only silence a branch: a sum follows, gates and factors aside."""
    readers: dict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        for parent in node.inputs:
            readers[parent.index].append(node)

    layers = [node for node in nodes if node.kind in ("conv", "norm")]
    return {node.index for node in layers if _ends(node, readers, skipped)}


def _ends(
    node: Node, readers: dict[int, list[Node]], skipped: tuple[str, ...], depth: int = 0
) -> bool:
    after = readers[node.index]
    if any(reader.kind == "add" for reader in after):
        return True
    further = [reader for reader in after if depth < 4 and reader.kind in skipped]
    return any(_ends(reader, readers, skipped, depth + 1) for reader in further)


def _judge_classifier(node: Node, weight: Tensor, found: Findings) -> None:
    rows, columns = weight.shape[-2:]
    usual = [math.sqrt(2 / rows), math.sqrt(2 / columns), 1 / math.sqrt(rows)]
    std = float(weight.std()) if weight.numel() > 1 else 0.0
    if std > FAR * max(usual):
        words = _times(std, max(usual)).replace("their", "its")
        found.add("init", "linear", node.label, node=node, words=words)


def _times(std: float, usual: float) -> str:
    return f"their standard deviation is many times too {'large' if std > usual else 'small'}"


def check_gradients(training: Trace, found: Findings) -> None:
    """Report every point where a gradient that should pass does not."""
    for cut in (cut for cut in training.cuts if cut.how not in DIGITS):
        if cut.location:
            found.drop("extra-operation", cut.location)
        found.add("gradient-cut", cut.how, cut.place or "forward", line=cut.location)


DIGITS = {"bfloat16": "2 to 3", "float16": "3 to 4"}
"""Decimal digits that a number type holds, where float32 holds 7."""


def check_precision(traces: list[Trace], found: Findings) -> None:
    """Report casts to half precision in the midst of the network."""
    for cut in (cut for trace in traces for cut in trace.cuts if cut.how in DIGITS):
        where, digits = cut.place or "forward", DIGITS[cut.how]
        found.add("precision", "cast", where, line=cut.location, type=cut.how, digits=digits)


def check_ownership(model: nn.Module, traces: list[Trace], found: Findings) -> None:
    """Report parameters that are unused, shared, unknown to the network or none at all."""
    for name, line in {n: line for t in traces for n, line in t.writes.items()}.items():
        found.add("changing-weights", "writes", name, line=line)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    live = [trace.live() for trace in traces]
    unused = sizes.keys() - {name for nodes in live for node in nodes for name in node.names}
    for owner, line in _discarded(unused, sizes, traces).items():
        own = {name for name in unused if _is_in(name, owner)}
        what = "layers" if len({name.rpartition(".")[0] for name in own}) == 1 else "blocks"
        code = handed_on(line)
        found.add("discarded-output", what, owner, amount=1, line=line, code=code)
        unused -= own
    alive = {node.index for node in live[0]}
    for node in traces[0].nodes:
        if node.kind == "relu" and node.index not in alive and "missing-relu" in found.kinds():
            line = f" ({line_words(node.location)})" if node.location else ""
            found.explain("missing-relu", f"A ReLU runs{line}, but its result is thrown away.")
    for owner in _owners(unused, sizes):
        if _report_left_out(model, owner, traces, found):
            continue
        amount = sum(sizes[name] for name in unused if _is_in(name, owner))
        what = "parameters" if amount else "lazy"
        found.add("unused-parameters", what, owner, amount=amount, line=found.line_of(owner))
    _report_frozen(model, live[-1], sizes, found)
    for node in live[0]:
        if node.kind in ("conv", "linear", "norm") and (held := node.settings.get("held")):
            amount = node.weight.numel() if node.weight is not None else 0
            place = held.rpartition(".")[0] or held
            found.add("buffer-weights", "buffers", place, amount=amount, node=node)
        if node.settings.get("computed") and not node.settings.get("by_hand"):
            found.note("Weights are computed on the way (weight norm, masks); what they come to "
                       "is compared.")  # fmt: skip
    _check_sharing(model, live[0], sizes, found)
    norms = {node.place for node in live[0] if node.kind == "norm"}
    for name, size in traces[0].unregistered.items():
        made = [path for path in traces[0].fresh if f"{name}.".startswith(f"{path}.")]
        if made:
            place, line = made[0], traces[0].fresh[made[0]]
            what = "norm made in forward" if place in norms else "made in forward"
            words = {"name": place.rpartition("<")[2].rstrip(">")}
            where = place[: place.index("<")].rstrip(".") or "forward"
            found.add("unregistered", what, where, amount=size, line=line, **words)  # type: ignore[arg-type]
            continue
        place = name[: name.rindex("]") + 1] if "]" in name else name.rpartition(".")[0] or name
        found.add("unregistered", "in use", place, amount=size, line=found.line_of(place))


def _report_left_out(model: nn.Module, owner: str, traces: list[Trace], found: Findings) -> bool:
    """Report blocks that never run though others like them do; whether the owner is such."""
    calls = {path: line for trace in traces for path, line in trace.calls.items()}
    modules = dict(model.named_modules())
    parent, module = owner.rpartition(".")[0], modules.get(owner)
    if module is None or owner in calls or not _is_block(module):
        return False
    like = [p for p, m in modules.items() if type(m) is type(module) and _is_block(m)]
    twin = next((p for p in like if p in calls and p.rpartition(".")[0] == parent), None)
    if twin is None:
        return False
    blocks = [m for m in module.modules() if m is not module and _is_block(m)]
    line, what, code = why_left_out(calls[twin])
    found.add("left-out", what, owner, amount=len(blocks) or 1, line=line, code=code)
    return True


def _is_block(module: nn.Module) -> bool:
    """Whether it holds two convolutions."""
    return sum(p.dim() == 4 for p in module.parameters()) > 1


def _report_frozen(
    model: nn.Module, nodes: list[Node], sizes: dict[str, int], found: Findings
) -> None:
    """Report layers that are not trained; of what is written by hand those that hold nothing else.

    Such a norm may keep its running statistics as parameters.
    """
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    layers = [node for node in nodes if node.kind in ("conv", "linear", "norm")]
    whole = [n for n in layers if frozen.issuperset(n.names) or not n.settings.get("by_hand")]
    names = {name for node in whole for name in node.names} & frozen
    for owner in _owners(names, sizes):
        own = [name for name in names if _is_in(name, owner)]
        amount = sum(sizes[name] for name in own)
        for line in dict.fromkeys(found.frozen.get(name) or found.line_of(name) for name in own):
            found.add("frozen-parameters", "frozen", owner, amount=amount, line=line)
            amount = 0


def _check_sharing(
    model: nn.Module, nodes: list[Node], sizes: dict[str, int], found: Findings
) -> None:
    layers = [node for node in nodes if node.kind in ("conv", "linear", "norm")]
    uses = Counter(name for node in layers for name in node.names if name in sizes)
    shared = {name for name, count in uses.items() if count > 1}
    holders = Counter(p for module in model.modules() for p in {*module._parameters.values()})
    tied = {name for name, parameter in model.named_parameters() if holders[parameter] > 1}
    for owner in _owners(shared, sizes):
        own = {name for name in sizes if _is_in(name, owner)}
        readers = {node.kind for node in nodes if own & {*node.names}}
        what = "norm" if readers == {"norm"} else "layer" if len(readers) == 1 else "module"
        what = "tied" if own & tied else what
        place = f"{owner} ({max(uses[name] for name in own)} times)"
        found.add("shared-weights", what, place, line=found.line_of(owner))


def _is_in(name: str, owner: str) -> bool:
    """Whether a parameter is this one, or one of this module."""
    return f"{name}.".startswith(f"{owner}.")


def _discarded(
    unused: set[str], sizes: dict[str, int], traces: list[Trace]
) -> dict[str, Location | None]:
    """The outermost modules that run, but in no part of an output -> the line that calls them."""
    read = {name for trace in traces for node in trace.nodes for name in node.names}
    called: dict[str, Location | None] = {}
    for path, line in [call for trace in traces for call in trace.calls.items()]:
        own = {name for name in sizes if path and _is_in(name, path)}
        outer = any(_is_in(path, other) for other in called)
        if read & own and own <= unused and not outer:
            called[path] = line
    return called


def _owners(names: set[str], sizes: dict[str, int]) -> list[str]:
    """The outermost modules all of whose parameters are among the names, or the parameters."""
    owners: dict[str, None] = {}
    for owner in (name for name in sizes if name in names):
        while "." in owner:
            parent = owner.rpartition(".")[0]
            if any(_is_in(other, parent) and other not in names for other in sizes):
                break
            owner = parent
        owners[owner] = None
    return list(owners)


def check_training(evaluation: Trace, training: Trace, found: Findings) -> None:
    """Report what training does that evaluation does not: chance, other operations, crashes."""
    kind = "dropout-in-evaluation" if evaluation.random else "dropout"
    source = evaluation if evaluation.random else training
    for place, operation, line in source.random:
        if line and line in source.fresh.values():
            continue  # the first weights of a layer that is made in the pass
        if made := source.fresh.get(place):
            outer, _, name = place.rpartition("<")
            where, name = outer.rstrip(".") or "forward", name.rstrip(">")
            found.add("dropout-in-evaluation", "made in forward", where, line=made, name=name)
            continue
        what = "dropout" if operation in ("bernoulli", "native_dropout") else "noise"
        where = place or (f"({line_words(line)})" if line else "forward")
        found.add(kind, what, where, line=line or found.line_of(place))
    if training.crash:
        message, place = training.crash.message, training.crash.label
        found.add("train-mode", "crash", place, line=training.crash.location, message=message)
        return
    heads = [{key for key, _, _ in trace.heads} for trace in (evaluation, training)]
    if len(heads[1]) > len(heads[0]):
        found.add("auxiliary-output", "more", "forward")
    parsed = [parse(t.output) for t in (evaluation, training) if t.output is not None]
    quiet = ("scale", "pad", "slice", "shift")
    rows = [[node for node in p.layers if node.kind not in quiet] for p in parsed]
    kinds = [Counter((n.kind, n.place) for n in row) for row in rows]
    lost, gained = kinds[0] - kinds[1], kinds[1] - kinds[0]
    dropped = next((n for n in rows[0] if n.kind == "softmax" and (n.kind, n.place) in lost), None)
    if dropped is not None and found.drop("softmax"):
        where = dropped.label or "the end of forward"
        found.add("softmax", "evaluation", where, node=dropped, words=dropped.words)
    places = {unit.place for unit in parsed[0].units}
    left = [u.place for u in parsed[1].units if u.place and u.place not in places]
    if left and len(parsed[0].units) + len(left) == len(parsed[1].units) and not training.random:
        found.drop("depth")
        for place in left:
            asked = condition_of(training.calls.get(place))
            line = asked[0] if asked else why_left_out(training.calls.get(place))[0]
            found.add("train-mode", "blocks", place, amount=1, line=line)
        gained = Counter[tuple[str, str]]()
    if gained and not training.random and dropped is None:
        odd = [n for n in rows[1] if (n.kind, n.place) in gained]
        words, place = ", ".join(dict.fromkeys(n.words for n in odd)), odd[0].label or "forward"
        found.add("train-mode", "operations", place, node=odd[0], words=words)
    for node in rows[1]:
        batch = node.kind == "norm" and node.settings["type"] == "batch norm"
        if batch and not node.settings["training"]:
            what, words = statistics_words(node, "frozen")
            found.add("norm-statistics", what, node.label, node=node, **words)


def check_output(trace: Trace, found: Findings) -> None:
    """Report an output that is not a tensor of logits; one that names its logits is noted."""
    if trace.logits is None or "no-classifier" in found.kinds():
        return
    kind = trace.returned.__name__
    key = next((k for k, _, t in trace.heads if t is trace.logits), "")
    if not issubclass(trace.returned, Tensor):
        if key and not key.split(".")[-1].isdigit():
            found.note(f"forward returns {a(kind)}; its `{key}` is compared.")
            return
        count = plural(len(trace.heads), "tensor")
        found.add("output", "several", "forward", given=a(kind), count=count)
    elif not trace.logits.is_floating_point():
        found.add("output", "classes", "forward")
    elif trace.logits.dim() != 2:
        found.add("output", "shape", "forward", shape=list(trace.logits.shape))


def check_sizes(model: nn.Module, trace: Trace, found: Findings) -> bool:
    """Report a network bound to one input size; whether another size works."""
    assert trace.output is not None
    channels, size = trace.images.shape[1:3]
    flat = not any(node.kind in POOLS for node in parse(trace.output).head)
    if found.kinds() & {"fixed-size", "pooling"} and not flat:
        return False
    if "no-classifier" in found.kinds():
        return True
    larger = 2 * size if size <= 64 else 96
    again = trace_network(model, torch.randn(2, channels, larger, larger))
    if again.crash and larger < size and explain_crash(again.crash, larger).kind != "fixed-size":
        larger = -(-size * 5 // 128) * 32
        again = trace_network(model, torch.randn(2, channels, larger, larger))
    if again.crash:
        where, line = again.crash.label, again.crash.location
        cause, message = explain_crash(again.crash, larger), again.crash.message
        why = cause.what if cause.kind == "fixed-size" else f"at {larger} pixels: {message}"
    else:
        heads = [parse(t.output).head for t in (trace, again) if t.output is not None]
        covers = [[n for n in head if n.shape[2:] in ((), (1, 1))] for head in heads]
        rest = [n for n in heads[1] if n not in covers[1] and n.kind in ("avgpool", "mean")]
        if not covers[0] or not rest:
            return True
        where, line = rest[0].label, rest[0].location
        shape = "x".join(map(str, rest[0].in_shape[2:]))
        why = f"at {larger} pixels the pooling no longer covers the map of {shape}."
    if flat:
        found.drop("pooling")  # the same fault, seen in the structure
    found.add("fixed-size", "made", where, line=line, size=size, why=why)
    return False


def check_single_image(model: nn.Module, trace: Trace, found: Findings) -> None:
    """Report a network whose answer to an image depends on the others of its batch.

    One that needs two images is ``single-image``, such as one that squeezes the batch away.
    """
    if trace.logits is None or trace.logits.dim() != 2:
        return
    if any(cut.how == "outside" for cut in trace.cuts):
        return  # which is only followed through a batch
    alone = trace_network(model, trace.images[:1])
    if alone.logits is not None and alone.logits.dim() == 2:
        known = trace.random or "norm-statistics" in found.kinds()
        known = known or trace.writes or any("<" in name for name in trace.unregistered)
        known = known or not trace.logits.isfinite().all()
        if not known and apart(trace, alone.logits[:1]):
            _blame_for_the_batch(model, trace, found)
        return
    crash = alone.crash
    fate = f"crashes: {crash.message.rstrip('.')}" if crash else ""
    if alone.logits is not None:
        fate = f"gives the shape {list(alone.logits.shape)}, not {[1, *trace.logits.shape[1:]]}"
    place, line = (crash.label, crash.location) if crash else ("forward", None)
    found.add("single-image", f"one image alone {fate}.", place, line=line)


def apart(trace: Trace, other: Tensor) -> bool:
    """Whether the logits of the first images are others than the trace's."""
    assert trace.logits is not None
    tolerance = 1e-3 if trace.precision <= {"float32"} else 0.1
    mine = trace.logits[: len(other)].double()
    gap = (other.double() - mine).abs().max()
    return bool(mine.isfinite().all()) and not gap <= tolerance * trace.logits.detach().abs().max()


def _blame_for_the_batch(model: nn.Module, trace: Trace, found: Findings) -> None:
    """Name the first operation whose result for one image changes with its neighbours."""
    others = trace.images.clone()
    others[1:] = torch.randn_like(others[1:])
    rows = [trace_network(model, x, watch=True).live() for x in (trace.images, others)]
    differ = [a for a, b in zip(*rows, strict=False) if a.kind != "input" and not alike(a, b)]
    node = differ[0] if differ else None
    if node is None:
        found.add("batch-dependence", "count", "forward")
        return
    for kind in ("normalised-input", "extra-operation"):  # seen in the structure
        found.drop(kind, node.location)
    found.add("batch-dependence", "neighbours", node.label or "forward", node=node)


@dataclass(frozen=True)
class Cause:
    """A crash as a finding."""

    kind: str
    sentence: str
    """name of one of the kind's"""
    words: dict[str, Any] = field(default_factory=dict)
    place: str = ""
    """if the cause stands elsewhere than the crash"""
    node: Node | None = None

    @property
    def what(self) -> str:
        return phrase(self.kind, self.sentence, self.words)[0]

    @property
    def remedy(self) -> str:
        return phrase(self.kind, self.sentence, self.words)[1]


def explain_crash(crash: Crash, size: int) -> Cause:
    """The likeliest cause of a crash at ``size`` pixels."""
    here = f"the forward pass crashes here at {size} pixels"
    at = f"{here}, where {_by(crash.input_shape[1:])} arrives" if crash.input_shape else here
    message, shapes = crash.message, crash.shapes
    words = {"at": at, "message": message.rstrip("."), "first": message.partition(".")[0]}
    if message == "forward returns nothing":
        return Cause("no-return", "nothing")
    if message.startswith("the output does not depend"):
        return Cause("gradient-cut", "constant")
    for kind, pattern in _MESSAGES.items():
        if re.search(pattern, message):
            return Cause(kind, "message", words)
    if crash.error == "TypeError" and "unsupported operand type(s)" in message:
        classes = message.partition(": ")[2].replace("'", "").replace(" and ", " ").split()
        known = ("Tensor", "int", "float", "NoneType")
        if module := next((name for name in classes if name not in known), ""):
            return Cause("not-called", "sum", words | {"module": module})
    if crash.operation in ("add", "sub") and len(crash.nodes) == 2:
        return _addition(crash, at)
    if crash.operation == "convolution" and len(shapes) > 1 and "channels" in message:
        words |= {"want": shapes[1][1], "got": shapes[0][1]}
        image = bool(crash.nodes) and crash.nodes[0].kind == "input"
        return Cause(*(("in-channels", "image") if image else ("channels", "convolution")), words)
    if crash.operation in ("addmm", "mm") and len(shapes) > 1:
        return _classifier(crash, here)
    if "too small" in message and "pool" in crash.operation:
        return Cause("fixed-size", "window", words)
    return Cause("crash", "message", words)


_MESSAGES = {
    "channels": "(running_mean|weight) should contain",
    "device": "NVIDIA driver|CUDA|cuda|MPS",
    "max-pool": "half of.*kernel size",
}
"""Kinds of crashes that torch's own words tell of."""


def _addition(crash: Crash, at: str) -> Cause:
    """Branch and shortcut of different shapes: which of the two is wrong?"""
    first, second = sorted(crash.nodes, key=lambda node: node.index)
    shapes = [_by(shape[1:]) for shape in crash.shapes]
    words: dict[str, Any] = {"at": f"{at}: {shapes[0]} and {shapes[1]} cannot be added"}

    def border(path: list[Node]) -> Cause | None:
        node = next((node for node in path if _shrinks(node)), None)
        if node is None:
            return None
        kernel = "{}x{}".format(*node.settings["kernel"])
        return Cause("padding", "border", words | {"kernel": kernel, "name": node.label}, "", node)

    between = behind([second], first)[::-1]
    shrinks = border(between)
    if shrinks and crash.shapes[0][1] == crash.shapes[1][1]:
        return shrinks
    if first in between:
        return Cause("missing-projection", "shape", words)
    shared = behind([second])
    fork = next((node for node in behind([first])[::-1] if node in shared), None)
    paths = [behind([node], fork)[:0:-1] if fork else [] for node in (first, second)]
    shortcut, branch = sorted(paths, key=lambda path: sum(node.kind == "conv" for node in path))
    strided = [n for n in branch if n.kind == "conv" and max(n.settings["stride"]) > 1]
    if len(strided) > 1:
        words |= {"count": len(strided), "stride": max(strided[0].settings["stride"])}
        return Cause("stride", "twice", words, strided[0].label, strided[0])
    if lost := border(branch):
        return lost
    one, two = (
        math.prod(max(n.settings.get("stride") or (1,)) for n in p) for p in (branch, shortcut)
    )
    what = "shape" if one == two else "branch" if one == 1 else "strides"
    return Cause("projection-shape", what, words | {"branch": one, "shortcut": two})


def _classifier(crash: Crash, at: str) -> Cause:
    """A linear layer that gets another number of features than it is made for."""
    got, want = crash.shapes[-2][-1], crash.shapes[-1][0]
    node = crash.nodes[0] if crash.nodes else None
    shape = node.shape if node is not None else ()
    arrived = crash.input_shape or shape
    words = {"at": at, "got": got, "want": want, "map": _by(arrived[1:])}
    if len(arrived) == 4:
        return Cause("missing-flatten", "channels" if arrived[1] == want else "map", words)
    if len(arrived) == 1 or (len(arrived) == 2 and arrived[0] == 1 and shape and shape[0] != 1):
        return Cause("flatten-batch", "row", words)
    pooled = node is not None and node.kind in POOLS and set(shape[2:]) == {1}
    if len(shape) == 2 or pooled:
        return Cause("head-shape", "features", words)
    return Cause("fixed-size", "features", words)


def _shrinks(node: Node) -> bool:
    """Whether a convolution has less padding than keeps the map's size."""
    if node.kind != "conv":
        return False
    kernel, padding, dilation = (node.settings[key] for key in ("kernel", "padding", "dilation"))
    return any(2 * p < d * (k - 1) for k, p, d in zip(kernel, padding, dilation, strict=True))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "()"
