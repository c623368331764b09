"""Faults that are no matter of structure: weights, registration, chance, input size, crashes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from torch import nn

from resnetlab.comparison.findings import Findings
from resnetlab.comparison.operations import Node
from resnetlab.comparison.structure import POOLS
from resnetlab.comparison.trace import Crash, Trace

FAR = 3.0
"""An initial weight's deviation is far from He's if it is this many times off every usual one."""


def live_nodes(trace: Trace) -> list[Node]:
    """The operations that the output depends on, in order."""
    found: dict[int, Node] = {}
    todo = [trace.output] if trace.output else []
    while todo:
        node = todo.pop()
        if node.index not in found:
            found[node.index] = node
            todo.extend(node.inputs)
    return [found[index] for index in sorted(found)]


def check_initialisation(nodes: list[Node], found: Findings) -> None:
    """Compare each convolution's weights with He's normal (arXiv:1502.01852), fan in and fan out.

    A deviation within ``FAR`` of He's or of PyTorch's default is no difference; PyTorch's default
    (Kaiming uniform with a = sqrt(5), 0.41 of He's) is noted. All zeros is legitimate for the last
    layer of a branch. A network that has been trained is not judged: its statistics have moved.
    """
    norms = [node for node in nodes if node.kind == "norm" and len(node.tensors) == 4]
    if any(node.tensors[2] is not None and node.tensors[2].abs().max() > 0 for node in norms):
        found.note("The running statistics have moved: trained, so initialisation is not judged.")
        return
    default, judged = 0, 0
    readers = Counter(parent.index for node in nodes for parent in node.inputs)
    adders = {parent.index for node in nodes if node.kind == "add" for parent in node.inputs}
    for node in nodes:
        if node.kind == "norm" and node.tensors and node.tensors[0] is not None:
            last = node.index in adders
            if not last and float(node.tensors[0].abs().max()) == 0:
                found.add(
                    "init",
                    "batch norm starts with scale 0 where it ends no branch: nothing passes.",
                    "start the scale at 1; 0 is for the last batch norm of a branch alone.",
                    node.label,
                )
        if node.kind != "conv" or node.tensors[0] is None:
            continue
        weight = node.tensors[0].float()
        receptive = math.prod(weight.shape[2:])
        fan_in = weight.shape[1] * receptive
        fan_out = weight.shape[0] * receptive / node.settings["groups"]
        he = [math.sqrt(2 / fan_in), math.sqrt(2 / fan_out)]
        usual = [*he, 1 / math.sqrt(3 * fan_in)]
        std, mean = float(weight.std()), abs(float(weight.mean()))
        judged += 1
        if std == 0 and mean == 0 and node.index in adders and readers[node.index] == 1:
            found.note("Branches end with a convolution of zeros (zero-initialised residual).")
            continue
        limit = 1 / math.sqrt(fan_in)  # of PyTorch's default
        default += abs(float(weight.abs().max()) / limit - 1) < 0.05 and std < 0.7 * limit
        if std < min(usual) / FAR or std > max(usual) * FAR or mean > max(usual):
            found.add(
                "init",
                "convolutions start far from He's initialisation: "
                + ("they are constant." if std == 0 else _times(std, he[1])),
                'nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu").',
                node.label,
            )
    if judged and default > judged / 2:
        found.note(
            "The convolutions start with PyTorch's default, not with He's normal: their standard "
            "deviation is about 0.4 of He's. It trains, batch norm sees to it."
        )


def _times(std: float, he: float) -> str:
    return "their standard deviation is many times " + ("too large." if std > he else "too small.")


def check_ownership(model: nn.Module, traces: list[Trace], found: Findings) -> None:
    """Report parameters that are unused, shared or unknown to the network."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    live = [live_nodes(trace) for trace in traces]
    used = {name for nodes in live for node in nodes for name in node.names}
    unused = {name: size for name, size in sizes.items() if name not in used}
    for owner in _owners(set(unused), sizes):
        amount = sum(size for name, size in unused.items() if f"{name}.".startswith(f"{owner}."))
        text = "{amount} parameters are registered but play no part in the output."
        if not amount:  # of lazy layers
            text = "layers are registered but never called."
        remedy = "remove these layers, or use them in forward."
        found.add("unused-parameters", text, remedy, owner, amount=amount)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    if frozen:
        found.note(f"{frozen:,} parameters are frozen (requires_grad=False).")
    uses: dict[str, int] = defaultdict(int)
    for node in live[0]:
        if node.kind in ("conv", "linear", "norm"):
            for name in node.names:
                uses[name] += name in sizes
    shared = {name: count for name, count in uses.items() if count > 1}
    for owner in _owners(set(shared), sizes):
        count = max(uses for name, uses in shared.items() if name.startswith(owner))
        found.add(
            "shared-weights",
            "one module is used in several places of a forward pass, so its weights are shared.",
            "make a new module for every place; [block] * n repeats one block.",
            f"{owner} ({count} times)",
        )
    for name, size in traces[0].unregistered.items():
        found.add(
            "unregistered",
            "{amount} parameters are in use that the network does not know of: no optimizer trains "
            "them, no state dict saves them, .eval() and .to() do not reach them.",
            "keep layers in nn.ModuleList or nn.Sequential (not a Python list) and make them in "
            "__init__.",
            name[: name.rindex("]") + 1] if "]" in name else name.rpartition(".")[0] or name,
            amount=size,
        )


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
            found.add(
                "dropout",
                "the network draws random numbers"
                + (" in evaluation too." if source is evaluation else " (dropout) in training."),
                "the papers' residual networks have no dropout; batch norm regularises.",
                place or f"forward ({operation})",
            )
        if source.random:
            break
    if training.crash:
        found.add(
            "train-mode",
            f"the forward pass crashes in training mode: {training.crash.message}",
            "it must run in both modes.",
            training.crash.label,
        )
        return
    kinds = [
        [(n.kind, n.place) for n in live_nodes(t) if n.kind not in ("scale", "pad", "slice")]
        for t in (evaluation, training)
    ]
    drawn = {place for place, _ in training.random}
    lost, gained = Counter(kinds[0]) - Counter(kinds[1]), Counter(kinds[1]) - Counter(kinds[0])
    if gained and not drawn and "softmax" not in {kind for kind, _ in lost}:
        found.add(
            "train-mode",
            f"training mode does other operations than evaluation: "
            f"{', '.join(dict.fromkeys(kind for kind, _ in gained))}.",
            "both modes must compute the same function but for batch norm's statistics.",
            next(iter(gained))[1] or "forward",
        )
    for node in live_nodes(training):
        normal = node.kind != "norm" or node.settings["type"] != "batch norm"
        if not normal and not node.settings["training"]:
            found.add(
                "norm-statistics",
                "batch norm does not use the batch's statistics in training.",
                "pass training=self.training, and do not freeze it with .eval().",
                node.label,
            )


def explain_crash(crash: Crash, size: int) -> tuple[str, str, str]:
    """(kind, what, remedy): a guess of the cause from the operation and the shapes it met."""
    arriving = f", where {_by(crash.input_shape[1:])} arrives" if crash.input_shape else ""
    at = f"the forward pass crashes here at {size} pixels{arriving}: "
    said = f" (PyTorch: {crash.message})"
    shapes, message = crash.shapes, crash.message
    if crash.operation in ("add", "sub") and len(crash.nodes) == 2:
        first, second = sorted(crash.nodes, key=lambda node: node.index)
        words = f"{_by(shapes[0][1:])} and {_by(shapes[1][1:])} cannot be added"
        between = _path(second, first)
        shrinks = next((node for node in between if _shrinks(node)), None)
        if shrinks and shapes[0][1] == shapes[1][1]:
            kernel = "{}x{}".format(*shrinks.settings["kernel"])
            return (
                "padding",
                f"{at}{words}: the {kernel} convolution {shrinks.label} takes off the border.",
                "pad with half the kernel, which keeps the map's size: padding=1 for 3x3.",
            )
        if first in between:
            return (
                "missing-projection",
                f"{at}{words}: the shortcut is an identity, but the block changes the shape.",
                "project the shortcut where channels or resolution change: "
                "1x1 convolution with the block's stride, then batch norm.",
            )
        return (
            "projection-shape",
            f"{at}{words}: branch and shortcut do not have the same shape.",
            "give the shortcut the channels and the stride of the branch.",
        )
    if crash.operation == "convolution" and len(shapes) > 1 and "channels" in message:
        want, got = shapes[1][1], shapes[0][1]
        if crash.nodes and crash.nodes[0].kind == "input":
            return (
                "in-channels",
                f"the network takes images of {want} channels, not {got}.",
                f"say --in-channels {want}.",
            )
        return (
            "channels",
            f"{at}the convolution is made for {want} channels and gets {got}.",
            f"give it {got} input channels, or correct what comes before it.",
        )
    if "running_mean should contain" in message or "weight should contain" in message:
        return (
            "channels",
            f"{at}batch norm is made for another number of channels{said}.",
            "give batch norm the channels of the convolution before it.",
        )
    if crash.operation in ("addmm", "mm") and len(shapes) > 1:
        got, want = shapes[-2][-1], shapes[-1][0]
        node = crash.nodes[0] if crash.nodes else None
        pooled = node is not None and (
            len(node.shape) == 2 or (node.kind in POOLS and set(node.shape[2:]) == {1})
        )
        at = f"the forward pass crashes here at {size} pixels: "
        if pooled:
            return (
                "head-shape",
                f"{at}the classifier is made for {want} features and gets {got}.",
                f"nn.Linear({got}, ...): the channels of the last stage.",
            )
        return (
            "fixed-size",
            f"{at}the classifier is made for {want} features and gets {got}, which the image's "
            "size decides.",
            "pool globally with AdaptiveAvgPool2d(1) before the classifier.",
        )
    if "too small" in message and "pool" in crash.operation:
        return (
            "fixed-size",
            f"{at}the pooling window is larger than the map{said}.",
            "take AdaptiveAvgPool2d(1).",
        )
    return ("crash", f"{at}{message}", "make it run first; the place is the innermost module.")


def _path(node: Node, ancestor: Node) -> list[Node]:
    """The operations behind ``node`` back to ``ancestor``, last first."""
    todo, seen = [node], dict[int, Node]()
    while todo:
        node = todo.pop()
        if node.index >= ancestor.index and node.index not in seen:
            seen[node.index] = node
            todo.extend(node.inputs if node is not ancestor else [])
    return list(seen.values())


def _shrinks(node: Node) -> bool:
    """Whether a convolution has less padding than keeps the map's size."""
    if node.kind != "conv":
        return False
    kernel, padding, dilation = (node.settings[key] for key in ("kernel", "padding", "dilation"))
    return any(2 * p < d * (k - 1) for k, p, d in zip(kernel, padding, dilation, strict=True))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "()"
