"""Running the candidate for the first time: at the size that its stem is made for."""

from __future__ import annotations

import contextlib

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from resnetlab.comparison.crashes import Cause, explain_crash
from resnetlab.comparison.kinds import Findings
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


def _after_crash(run, trace: Trace, size: int, found: Findings) -> tuple[Trace, int]:
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
    found.add(kind, cause.what, cause.place or where, remedy=remedy, node=cause.node, line=line if cause.node is None else None)
    return trace, size
