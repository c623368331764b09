"""Faults that are no matter of structure: gradients, weights, chance, image sizes, outputs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import torch
from torch import Tensor, nn

from resnetlab.comparison.kinds import Findings, plural
from resnetlab.comparison.operations import Node
from resnetlab.comparison.running import explain_crash
from resnetlab.comparison.structure import POOLS, parse
from resnetlab.comparison.trace import Trace, trace_network

FAR = 3.0
"""An initial weight's deviation is far from the usual if it is this many times off all of them."""


FEW = 64
"""So few values have no deviation to speak of."""


def check_initialisation(nodes: list[Node], found: Findings) -> None:
    """Compare each layer's weights with He's normal (arXiv:1502.01852), fan in and fan out.

    A deviation within ``FAR`` of He's or of PyTorch's default is no difference; PyTorch's default
    (Kaiming uniform with a = sqrt(5), 0.41 of He's) is noted. All zeros is legitimate for the last
    layer of a branch. A network that has been trained is not judged: its norms have learned; moved
    statistics alone tell of a trial forward pass.
    """
    norms = [n for n in nodes if n.kind == "norm" and n.tensors and n.tensors[0] is not None]
    scales = [t.detach() for n in norms if (t := n.tensors[0]) is not None]
    moved = [n for n in nodes if n.kind == "norm" and len(n.tensors) == 4 and _is_moved(n)]
    if any(bool(((scale - scale.flatten()[0]).abs() > 1e-3).any()) for scale in scales):
        found.note("The batch norms have learned: trained, so initialisation is not judged.")
        return
    if moved and not scales:
        found.note("The running statistics have moved: trained, so initialisation is not judged.")
        return
    default = judged = 0
    ends = _branch_ends(nodes)
    for node in norms:
        scale = node.tensors[0]
        if scale is not None and not scale.any() and node.index not in ends:
            text = "batch norm starts with scale 0 where it ends no branch: nothing passes."
            remedy = "start the scale at 1; 0 is for the last batch norm of a branch alone."
            found.add("init", text, node.label, remedy=remedy, node=node)
    for node in nodes:
        if node.kind == "linear" and not node.settings.get("computed"):
            _judge_classifier(node, found)
        if node.kind != "conv" or node.tensors[0] is None or node.settings.get("computed"):
            continue
        weight = node.tensors[0].detach().float()
        if weight.numel() < FEW:
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
            words = "they are constant." if std == 0 else _times(std, he[1])
            text = f"convolutions start far from He's initialisation: {words}"
            found.add("init", text, node.label, node=node)
    if judged and default > judged / 2:
        found.note(
            "The convolutions start with PyTorch's default, not with He's normal: their standard "
            "deviation is about 0.4 of He's. It trains, batch norm sees to it."
        )


def _is_moved(norm: Node) -> bool:
    mean = norm.tensors[2]
    return mean is not None and bool(mean.any())


def _branch_ends(nodes: list[Node]) -> set[int]:
    """Layers whose zeros would only silence a branch: a sum follows, gates and factors aside."""
    readers: dict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        for parent in node.inputs:
            readers[parent.index].append(node)

    def ends(node: Node, depth: int = 0) -> bool:
        after = readers[node.index]
        if any(reader.kind == "add" for reader in after):
            return True
        skipped = ("mul", "scale", "gate", "norm")
        return depth < 4 and any(r.kind in skipped and ends(r, depth + 1) for r in after)

    return {node.index for node in nodes if node.kind in ("conv", "norm") and ends(node)}


def _judge_classifier(node: Node, found: Findings) -> None:
    weight = node.tensors[0]
    assert weight is not None
    rows, columns = weight.shape[-2:]
    usual = [math.sqrt(2 / rows), math.sqrt(2 / columns), 1 / math.sqrt(rows)]
    std = float(weight.detach().float().std()) if weight.numel() > 1 else 0.0
    if std > FAR * max(usual):
        text = "a linear layer starts far from every usual initialisation: "
        remedy = "leave nn.Linear's own initialisation, or nn.init.normal_(fc.weight, 0, 0.01)."
        found.add("init", text + _times(std, max(usual)), node.label, remedy=remedy, node=node)


def _times(std: float, usual: float) -> str:
    words = "too large." if std > usual else "too small."
    return f"their standard deviation is many times {words}"


def check_gradients(training: Trace, found: Findings) -> None:
    """Report every point where a gradient that should pass does not."""
    for node, place, location in training.cuts:
        if node.without_gradient:
            text = "the forward pass runs this part without gradients (torch.no_grad)."
        else:
            text = "the gradient is cut here (detach or .data): what stands before is not trained."
        found.add("gradient-cut", text, place or "forward", line=location)


def check_ownership(model: nn.Module, traces: list[Trace], found: Findings) -> None:
    """Report parameters that are unused, shared, unknown to the network or none at all."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    live = [trace.live() for trace in traces]
    used = {name for nodes in live for node in nodes for name in node.names}
    unused = {name: size for name, size in sizes.items() if name not in used}
    for owner in _owners(set(unused), sizes):
        amount = sum(size for name, size in unused.items() if f"{name}.".startswith(f"{owner}."))
        text = "{amount} registered {amount:parameter} without part in the output."
        if not amount:  # of lazy layers
            text = "layers are registered but never called."
        line = found.defined.get(owner)
        found.add("unused-parameters", text, owner, amount=amount, line=line)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    if frozen:
        found.note(
            f"{plural(frozen, 'parameter')} {'is' if frozen == 1 else 'are'} frozen "
            "(requires_grad=False)."
        )
    uses: dict[str, int] = defaultdict(int)
    for node in live[0]:
        if node.kind in ("conv", "linear", "norm"):
            for name in node.names:
                uses[name] += name in sizes
            if held := node.settings.get("held"):
                amount = node.tensors[0].numel() if node.tensors[0] is not None else 0
                text = "{amount} weights are buffers, which no optimizer trains."
                place = held.rpartition(".")[0] or held
                found.add("buffer-weights", text, place, amount=amount, node=node)
        if node.settings.get("computed") and not node.settings.get("by_hand"):
            found.note("Weights are computed on the way (weight norm, masks); what they come to "
                       "is compared.")  # fmt: skip
    shared = {name: count for name, count in uses.items() if count > 1}
    for owner in _owners(set(shared), sizes):
        count = max(uses for name, uses in shared.items() if name.startswith(owner))
        text = "one module is used in several places of a forward pass, so its weights are shared."
        found.add("shared-weights", text, f"{owner} ({count} times)", line=found.defined.get(owner))
    for name, size in traces[0].unregistered.items():
        text = "{amount} {amount:parameter} in use that the network does not know of: no optimizer "
        text += "trains them, no state dict saves them, .eval() and .to() do not reach them."
        place = name[: name.rindex("]") + 1] if "]" in name else name.rpartition(".")[0] or name
        found.add("unregistered", text, place, amount=size, line=found.defined.get(place))


def _owners(names: set[str], sizes: dict[str, int]) -> list[str]:
    """The outermost modules all of whose parameters are among the names."""
    owners: dict[str, None] = {}
    for name in sorted(names, key=list(sizes).index):
        owner = name.rpartition(".")[0] or name
        while "." in owner:
            parent = owner.rpartition(".")[0]
            if any(other.startswith(parent + ".") and other not in names for other in sizes):
                break
            owner = parent
        owners[owner] = None
    return list(owners)


def check_training(evaluation: Trace, training: Trace, found: Findings) -> None:
    """Report what training does that evaluation does not: chance, other operations, crashes."""
    for source in (evaluation, training):
        for place, operation in source.random:
            when = "in evaluation too." if source is evaluation else "(dropout) in training."
            line = found.defined.get(place)
            where = place or f"forward ({operation})"
            found.add("dropout", f"the network draws random numbers {when}", where, line=line)
        if source.random:
            break
    if training.crash:
        text = f"the forward pass crashes in training mode: {training.crash.message}"
        place, line = training.crash.label, training.crash.location
        remedy = "it must run in both modes."
        found.add("train-mode", text, place, remedy=remedy, line=line)
        return
    heads = [{key for key, _, _ in trace.heads} for trace in (evaluation, training)]
    if len(heads[1]) > len(heads[0]):
        text = "in training forward returns more than in evaluation."
        found.add("auxiliary-output", text, "forward")
    parsed = [parse(t.output) for t in (evaluation, training) if t.output is not None]
    quiet = ("scale", "pad", "slice", "shift")
    rows = [[node for node in p.layers if node.kind not in quiet] for p in parsed]
    kinds = [Counter((n.kind, n.place) for n in row) for row in rows]
    lost, gained = kinds[0] - kinds[1], kinds[1] - kinds[0]
    if gained and not training.random and "softmax" not in {kind for kind, _ in lost}:
        odd = [n for n in rows[1] if (n.kind, n.place) in gained]
        words = ", ".join(dict.fromkeys(n.words for n in odd))
        text = f"training mode does other operations than evaluation: {words}."
        found.add("train-mode", text, odd[0].label or "forward", node=odd[0])
    for node in rows[1]:
        batch = node.kind == "norm" and node.settings["type"] == "batch norm"
        if batch and not node.settings["training"]:
            text = "batch norm is frozen: it does not use the batch's statistics in training."
            found.add("norm-statistics", text, node.label, node=node)


def check_output(trace: Trace, found: Findings) -> None:
    """Report an output that is not a tensor of logits; one that names its logits is noted."""
    if trace.logits is None:
        return
    if "no-classifier" in found.kinds():
        return
    kind = type(trace.result).__name__
    key = next((k for k, _, t in trace.heads if t is trace.logits), "")
    if not isinstance(trace.result, Tensor):
        if key and not key.split(".")[-1].isdigit():
            found.note(f"forward returns {'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}; its "
                       f"`{key}` is compared.")  # fmt: skip
            return
        text = f"forward returns a {kind} of {plural(len(trace.heads), 'tensor')}, not a tensor "
        text += "of logits."
        found.add("output", text, "forward")
    elif trace.logits.dim() != 2:
        text = f"forward returns the shape {list(trace.logits.shape)}, not (n, classes)."
        remedy = "x = torch.flatten(x, 1) before the classifier."
        found.add("output", text, "forward", remedy=remedy)


def check_sizes(model: nn.Module, size: int, channels: int, trace: Trace, found: Findings) -> bool:
    """Report a network bound to one input size; whether another size works."""
    assert trace.output is not None
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
    location = None
    if again.crash:
        where, location = again.crash.label, again.crash.location
        cause = explain_crash(again.crash, larger)
        text = f"at {larger} pixels: {again.crash.message}"
        text = cause.what if cause.kind == "fixed-size" else text
    else:
        assert again.output is not None
        before = [n for n in parse(trace.output).head if n.shape[2:] in ((), (1, 1))]
        after = [
            n
            for n in parse(again.output).head
            if n.kind in ("avgpool", "mean") and n.shape[2:] not in ((), (1, 1))
        ]
        if not before or not after:
            return True
        where, location = after[0].label, after[0].location
        shape = "x".join(map(str, after[0].settings["in_shape"][2:]))
        text = f"at {larger} pixels the pooling no longer covers the map of {shape}."
    if flat:
        found.drop("pooling")  # the same fault, seen in the structure
    text = f"the network is made for {size}-pixel images: {text}"
    found.add("fixed-size", text, where, line=location)
    return False


def check_single_image(
    model: nn.Module, size: int, channels: int, trace: Trace, found: Findings
) -> None:
    """Report a network that needs two images, such as one that squeezes the batch away."""
    alone = trace_network(model, torch.randn(1, channels, size, size))
    if trace.logits is None or trace.logits.dim() != 2:
        return
    if alone.logits is not None and alone.logits.dim() == 2:
        return
    fate = f"crashes: {alone.crash.message}" if alone.crash else ""
    if alone.logits is not None:
        fate = f"gives the shape {list(alone.logits.shape)}, not {[1, *trace.logits.shape[1:]]}"
    place = alone.crash.label if alone.crash else "forward"
    location = alone.crash.location if alone.crash else None
    found.add("single-image", f"one image alone {fate.rstrip('.')}.", place, line=location)
