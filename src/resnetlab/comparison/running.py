"""Running a stranger's network: at the size its stem is made for, and at another one."""

from __future__ import annotations

import contextlib

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from resnetlab.comparison.checks import explain_crash
from resnetlab.comparison.findings import Findings
from resnetlab.comparison.structure import POOLS, parse
from resnetlab.comparison.trace import Trace, first_tensor, trace_network


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
    model: nn.Module, image_size: int | None, in_channels: int | None, found: Findings
) -> tuple[Trace, int, int]:
    """A trace at the size the stem is made for: (trace, pixels, channels); reports a crash."""
    channels = in_channels or 3
    size = image_size or 32

    def run(size: int) -> Trace:
        return trace_network(model, torch.randn(2, channels, size, size))

    trace = run(size)
    cause = explain_crash(trace.crash, size) if trace.crash else ("", "", "")
    first_conv = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if cause[0] == "in-channels":
        assert trace.crash is not None
        channels = trace.crash.shapes[1][1]
        if in_channels is not None:
            found.add(*cause, trace.crash.place)
        trace = run(size)
    elif (
        trace.crash and in_channels is None and first_conv and first_conv.in_channels not in (0, 3)
    ):
        channels = first_conv.in_channels  # the network may refuse the image itself
        trace = run(size)
    first = next((n for n in trace.nodes if n.kind == "conv"), None)
    large = first is None or first.settings["kernel"][0] >= 5 or first.settings["stride"][0] > 1
    if image_size is None and (large or any(n.kind == "maxpool" for n in trace.nodes[:6])):
        size = 224
        trace = run(size)
    if trace.crash:
        kind, what, remedy = explain_crash(trace.crash, size)
        where = trace.crash.label
        if kind in ("fixed-size", "head-shape"):
            for other in (224, 32, 64, 96, 128, 28, 256):
                again = run(other) if other != size else trace
                if not again.crash:
                    found.add("fixed-size", f"{what} It runs at {other} pixels.",
                              "pool globally with AdaptiveAvgPool2d(1).", where)  # fmt: skip
                    return again, other, channels
            kind = "head-shape"
        found.add(kind, what, remedy, where)
    return trace, size, channels


def check_sizes(model: nn.Module, size: int, channels: int, trace: Trace, found: Findings) -> bool:
    """Report a network bound to one input size; whether a larger image also works."""
    assert trace.output is not None
    flat = not any(node.kind in POOLS for node in parse(trace.output).head)
    if found.kinds() & {"fixed-size", "pooling"} and not flat:
        return False
    larger = 256 if size == 224 else 2 * size
    again = trace_network(model, torch.randn(2, channels, larger, larger))
    if again.crash:
        where = again.crash.label
        kind, what, _ = explain_crash(again.crash, larger)
        text = what if kind == "fixed-size" else f"at {larger} pixels: {again.crash.message}"
    else:
        assert again.output is not None
        before = [n for n in parse(trace.output).head if n.kind == "globalpool"]
        after = [n for n in parse(again.output).head if n.kind in ("avgpool", "mean")]
        if not before or not after:
            return True
        where = after[0].label
        shape = "x".join(map(str, after[0].settings["in_shape"][2:]))
        text = f"at {larger} pixels the pooling no longer covers the map of {shape}."
    if flat:
        found.drop("pooling")  # the same fault, seen in the structure
    found.add(
        "fixed-size",
        f"the network is made for {size}-pixel images: {text}",
        "pool globally with AdaptiveAvgPool2d(1) before the classifier.",
        where,
    )
    return False


def check_single_image(
    model: nn.Module, size: int, channels: int, trace: Trace, found: Findings
) -> None:
    """Report a network that needs two images, such as one that squeezes the batch away."""
    together = first_tensor(trace.result)
    alone = trace_network(model, torch.randn(1, channels, size, size))
    logits = first_tensor(alone.result)
    if together is None or together.dim() != 2 or (logits is not None and logits.dim() == 2):
        return
    fate = f"crashes: {alone.crash.message}" if alone.crash else ""
    if logits is not None:
        fate = f"gives the shape {list(logits.shape)}, not {[1, *together.shape[1:]]}"
    found.add(
        "single-image",
        f"one image alone {fate.rstrip('.')}.",
        "flatten with x.flatten(1): squeeze() also takes away a batch of one.",
        alone.crash.label if alone.crash else "forward",
    )
