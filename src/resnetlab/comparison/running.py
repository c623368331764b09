"""Running the candidate for the first time, and why its forward pass may end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from resnetlab.comparison.kinds import Findings
from resnetlab.comparison.operations import Crash, Node
from resnetlab.comparison.structure import POOLS
from resnetlab.comparison.trace import Trace, trace_network
from resnetlab.errors import UserError


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
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        raise UserError(
            "the network is compiled to TorchScript (torch.jit.trace or script), which hides its "
            "modules; give the network itself, before it is compiled."
        )
    kinds = [type(module) for module in model.modules()]
    for dimensions, word in ((1, "1-D (signals)"), (3, "3-D (volumes)")):
        odd = getattr(nn, f"Conv{dimensions}d")
        if odd in kinds and nn.Conv2d not in kinds:
            raise UserError(
                f"the network is {word}: its convolutions are nn.Conv{dimensions}d; compare looks "
                "at networks for images."
            )
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        raise UserError(
            "the network's weights are on the device meta, which holds no values; build it on the "
            "CPU."
        )


def fill_lazy_layers(model: nn.Module, size: int, channels: int, found: Findings) -> None:
    """Lazy layers take their shapes from a first pass, before which they cannot be copied.

    Those that the pass does not reach become empty.
    """

    def empty() -> list[UninitializedParameter | UninitializedBuffer]:
        kinds = (UninitializedParameter, UninitializedBuffer)
        return [x for x in (*model.parameters(), *model.buffers()) if isinstance(x, kinds)]

    if not empty():
        return
    with torch.no_grad(), contextlib.suppress(Exception):  # ``first_run`` reports it
        model.eval()(torch.randn(2, channels, size, size))
    for tensor in empty():
        tensor.materialize((0,))
        found.note("Lazy layers that are not reached have no shape, and are not counted.")


def first_run(
    model: nn.Module,
    image_size: int | None,
    in_channels: int | None,
    classes: int | None,
    found: Findings,
) -> tuple[Trace, int, int]:
    """A trace at the size the stem is made for: (trace, pixels, channels); reports a crash."""
    channels = in_channels or 3
    size = image_size or 32

    def run(size: int) -> Trace:
        return trace_network(model, torch.randn(2, channels, size, size), classes=classes)

    trace = run(size)
    cause = explain_crash(trace.crash, size) if trace.crash else Cause("", "")
    first_conv = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    early = not any(node.kind == "conv" for node in trace.nodes)
    if cause.kind == "in-channels":
        assert trace.crash is not None
        channels = trace.crash.shapes[1][1]
        if in_channels is not None:
            found.add("in-channels", cause.what, trace.crash.place, remedy=cause.remedy)
        trace = run(size)
    elif trace.crash and in_channels is None and early:
        taken = first_conv.in_channels if first_conv else 3
        for channels in (taken, 1):  # it may refuse the image itself, or repeat a grey one
            if channels not in (0, 3):
                again = run(size)
                if not again.crash:
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
    if trace.crash:
        trace, size = _after_crash(run, trace, size, found)
    return trace, size, channels


def _after_crash(
    run: Callable[[int], Trace], trace: Trace, size: int, found: Findings
) -> tuple[Trace, int]:
    """Report the crash; a network bound to another image size runs at that."""
    assert trace.crash is not None
    cause = explain_crash(trace.crash, size)
    where, line = trace.crash.label, trace.crash.location
    if cause.kind in ("fixed-size", "head-shape"):
        for other in (224, 32, 64, 96, 128, 28, 256):
            again = run(other) if other != size else trace
            if not again.crash:
                text = f"{cause.what} It runs at {other} pixels."
                found.add("fixed-size", text, where, line=line)
                return again, other
    kind = "head-shape" if cause.kind == "fixed-size" and "features" in cause.what else cause.kind
    remedy = cause.remedy
    found.add(
        kind,
        cause.what,
        cause.place or where,
        remedy=remedy,
        node=cause.node,
        line=line if cause.node is None else None,
    )
    return trace, size


@dataclass(frozen=True)
class Cause:
    """A crash as a finding."""

    kind: str
    what: str
    remedy: str = ""
    """better than the table's"""
    place: str = ""
    """if the cause stands elsewhere than the crash"""
    node: Node | None = None


def explain_crash(crash: Crash, size: int) -> Cause:
    """The likeliest cause of a crash at ``size`` pixels."""
    arriving = f", where {_by(crash.input_shape[1:])} arrives" if crash.input_shape else ""
    at = f"the forward pass crashes here at {size} pixels"
    if crash.message == "forward returns nothing":
        return Cause("no-return", "forward returns nothing: its last line lacks `return`.")
    by_message = _from_message(crash, at + arriving)
    if by_message is not None:
        return by_message
    at += arriving + ": "
    if crash.operation in ("add", "sub") and len(crash.nodes) == 2:
        return _addition(crash, at)
    if crash.operation == "convolution" and len(crash.shapes) > 1 and "channels" in crash.message:
        want, got = crash.shapes[1][1], crash.shapes[0][1]
        if crash.nodes and crash.nodes[0].kind == "input":
            text = f"the network takes images of {want} channels, not {got}."
            return Cause("in-channels", text, f"set `in_channels` to {want}.")
        text = f"{at}the convolution is made for {want} channels and gets {got}."
        remedy = f"give it {got} input channels, or correct what comes before it."
        return Cause("channels", text, remedy)
    if crash.operation in ("addmm", "mm") and len(crash.shapes) > 1:
        return _classifier(crash, f"the forward pass crashes here at {size} pixels: ")
    if "too small" in crash.message and "pool" in crash.operation:
        text = f"{at}the pooling window is larger than the map (PyTorch: {crash.message})."
        return Cause("fixed-size", text)
    return Cause("crash", f"{at}{crash.message.rstrip('.')}.")


def _from_message(crash: Crash, at: str) -> Cause | None:
    """What torch's or Python's own words tell."""
    message = crash.message
    if "running_mean should contain" in message or "weight should contain" in message:
        text = f"{at}: batch norm is made for another number of channels (PyTorch: {message})."
        return Cause("channels", text, "give batch norm the channels of the convolution before it.")
    if any(word in message for word in ("NVIDIA driver", "CUDA", "cuda", "MPS")):
        return Cause("device", f"{at}: it asks for a graphics card ({message.partition('.')[0]}).")
    if crash.error == "TypeError" and "unsupported operand type(s)" in message:
        classes = message.partition(": ")[2].replace("'", "").replace(" and ", " ").split()
        module = next((name for name in classes if name not in ("Tensor", "int", "float")), "")
        if module and module != "NoneType":
            text = (
                f"{at}: a tensor and a module ({module}) meet in a sum; the module is not called."
            )
            return Cause("not-called", text)
    if "half of" in message and "kernel size" in message:
        text = f"{at}: a pool pads at most with half its kernel (PyTorch: {message})."
        return Cause("max-pool", text)
    return None


def _addition(crash: Crash, at: str) -> Cause:
    """Branch and shortcut of different shapes: which of the two is wrong?"""
    first, second = sorted(crash.nodes, key=lambda node: node.index)
    shapes = crash.shapes
    words = f"{_by(shapes[0][1:])} and {_by(shapes[1][1:])} cannot be added"
    between = _path(second, first)
    shrinks = next((node for node in between if _shrinks(node)), None)
    if shrinks and shapes[0][1] == shapes[1][1]:
        kernel = "{}x{}".format(*shrinks.settings["kernel"])
        text = f"{at}{words}: the {kernel} convolution {shrinks.label} takes off the border."
        return Cause("padding", text, node=shrinks)
    if first in between:
        text = f"{at}{words}: the shortcut is an identity, but the block changes the shape."
        return Cause("missing-projection", text)
    fork = next((n for n in _path(first) if n in _path(second)), None)
    paths = [_path(node, fork)[:-1] if fork else [] for node in (first, second)]
    paths.sort(key=lambda path: sum(node.kind == "conv" for node in path))
    shortcut, branch = paths
    strided = [n for n in branch if n.kind == "conv" and max(n.settings["stride"]) > 1]
    lost = next((n for n in branch if _shrinks(n)), None)
    if len(strided) > 1:
        text = f"{at}{words}: {len(strided)} convolutions of the branch have stride "
        text += f"{max(strided[0].settings['stride'])}."
        remedy = "stride on one convolution of the branch alone; the others have stride 1."
        return Cause("stride", text, remedy, strided[0].label, strided[0])
    if lost is not None:
        kernel = "{}x{}".format(*lost.settings["kernel"])
        text = f"{at}{words}: the {kernel} convolution {lost.label} takes off the border."
        return Cause("padding", text, node=lost)
    step = [_stride(path) for path in (branch, shortcut)]
    if step[0] != step[1]:
        text = f"{at}{words}: the branch has stride {step[0]}, the shortcut {step[1]}."
        if step[0] == 1:
            return Cause("projection-shape", text, "give both stride 2, or neither.")
        return Cause("projection-shape", text, f"stride={step[0]} in the shortcut too.")
    text = f"{at}{words}: branch and shortcut do not have the same shape."
    return Cause("projection-shape", text)


def _classifier(crash: Crash, at: str) -> Cause:
    """A linear layer that gets another number of features than it is made for."""
    shapes = crash.shapes
    got, want = shapes[-2][-1], shapes[-1][0]
    node = crash.nodes[0] if crash.nodes else None
    shape = node.shape if node is not None else ()
    arrived = crash.input_shape or shape
    if len(arrived) == 4 and arrived[1] == want:
        text = f"{at}a map of {_by(arrived[1:])} arrives at the classifier, not {want} features: "
        return Cause("missing-flatten", f"{text}it is not flattened.")
    if len(arrived) == 1 or (len(arrived) == 2 and arrived[0] == 1 and shape and shape[0] != 1):
        text = f"{at}the classifier gets all images of the batch as one row of {got} numbers."
        return Cause("flatten-batch", text)
    pooled = node is not None and (
        len(shape) == 2 or (node.kind in POOLS and set(shape[2:]) == {1})
    )
    text = f"{at}the classifier is made for {want} features and gets {got}"
    if len(arrived) == 4:
        return Cause(
            "missing-flatten", f"{at}a map of {_by(arrived[1:])} arrives at the classifier."
        )
    if pooled:
        return Cause("head-shape", f"{text}.", f"nn.Linear({got}, ...): the last stage's channels.")
    return Cause("fixed-size", f"{text}, which the image's size decides.")


def _stride(path: list[Node]) -> int:
    stride = 1
    for node in path:
        stride *= max(node.settings.get("stride") or (1,))
    return stride


def _path(node: Node, ancestor: Node | None = None) -> list[Node]:
    """The operations behind ``node`` back to ``ancestor``, last first."""
    todo, seen = [node], dict[int, Node]()
    first = ancestor.index if ancestor is not None else 0
    while todo:
        node = todo.pop()
        if node.index >= first and node.index not in seen:
            seen[node.index] = node
            todo.extend(node.inputs if node is not ancestor else [])
    return [seen[index] for index in sorted(seen, reverse=True)]


def _shrinks(node: Node) -> bool:
    """Whether a convolution has less padding than keeps the map's size."""
    if node.kind != "conv":
        return False
    kernel, padding, dilation = (node.settings[key] for key in ("kernel", "padding", "dilation"))
    return any(2 * p < d * (k - 1) for k, p, d in zip(kernel, padding, dilation, strict=True))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "()"
