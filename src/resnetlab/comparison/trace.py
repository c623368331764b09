"""What a network does to an image: one forward pass as a graph, with all that it returned."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module

from resnetlab.comparison.operations import Crash, Node
from resnetlab.comparison.recorder import Recorder, is_ours

_LOGITS = ("logits", "logit", "out", "output", "outputs", "pred", "prediction", "predictions", "y")
"""Keys under which networks return their classifier's output, likeliest first."""


@dataclass
class Trace:
    """One forward pass; ``output`` is the node behind the logits, None after a crash."""

    nodes: list[Node]
    output: Node | None = None
    logits: Tensor | None = None
    result: Any = None
    heads: list[tuple[str, Node, Tensor]] = field(default_factory=list)
    """every tensor of the output: (its key or index, node, tensor)"""
    crash: Crash | None = None
    random: list[tuple[str, str]] = field(default_factory=list)
    """(place, operation) of every draw of random numbers"""
    unregistered: dict[str, int] = field(default_factory=dict)
    """parameters in use that the network does not know of: name -> elements"""
    cuts: list[tuple[Node, str, tuple[str, int] | None]] = field(default_factory=list)
    """(operation that no gradient passes, module path, line) for each lost gradient"""
    precision: set[str] = field(default_factory=set)
    """number types of the convolutions"""

    def live(self, *, every_head: bool = True) -> list[Node]:
        """The operations that the output depends on, in order."""
        found: dict[int, Node] = {}
        todo = [node for _, node, _ in self.heads] if every_head else []
        todo += [self.output] if self.output else []
        while todo:
            node = todo.pop()
            if node.index not in found:
                found[node.index] = node
                todo.extend(node.inputs)
        return [found[index] for index in sorted(found)]


def trace_network(
    model: nn.Module, images: Tensor, *, training: bool = False, classes: int | None = None
) -> Trace:
    """Run ``model`` on images (n, c, h, w) and record what it does; the graph of gradients is kept.

    An exception of the network is not raised but recorded as ``crash``. Leaves the mode and the
    buffers (running statistics) as they were. ``classes``: the expected columns of the logits.
    """
    recorder = Recorder(model)
    known = [*model.modules(), *recorder.hidden]
    modes = [(module, module.training) for module in known]
    buffers = [(b, b.clone()) for module in known for b in module.buffers(recurse=False)]
    for module in [model, *recorder.hidden]:
        module.train(training)
    trace = record(recorder, model, images, classes)
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
    for module, mode in modes:
        module.training = mode
    return trace


def record(recorder: Recorder, model: nn.Module, images: Tensor, classes: int | None) -> Trace:
    """``trace_network`` without the mode and the buffers put back."""
    images = images.clone()
    images._node = source = recorder.node("input", [], images)  # type: ignore[attr-defined]
    trace = Trace(recorder.nodes)
    with torch.enable_grad(), _hooks(recorder):
        try:
            with recorder:
                trace.result = model(images)
        except Exception as error:  # a candidate's code raises anything
            *_, last = traceback.walk_tb(error.__traceback__)
            if is_ours(last[0].f_code.co_filename):
                raise  # our own fault, not the candidate's
            trace.crash = recorder.crash(error)
    for key, tensor in leaves(trace.result):
        node = recorder.tag(tensor)
        if isinstance(node, Node):
            trace.heads.append((key, node, tensor))
            recorder.look_for_cut(tensor, node, node)
    if trace.heads:
        _, trace.output, trace.logits = choose_logits(trace.heads, classes)
    elif not trace.crash:
        message = "forward returns nothing"
        if trace.result is not None:
            message = "the output does not depend on the input; "
            message += ".numpy(), .tolist() and .item() lead out of torch"
        trace.crash = Crash("", None, "", message, (), "", [], [source])
    alive = {node.index for node in trace.live()}
    trace.cuts = [cut[1:] for cut in recorder.cuts if cut[0].index in alive]
    trace.random, trace.unregistered = recorder.random, recorder.unregistered
    trace.precision = recorder.precision
    return trace


def leaves(result: Any, key: str = "") -> list[tuple[str, Tensor]]:
    """Every tensor of an output that may be a tuple, list, dict or data class, with its key."""
    if isinstance(result, Tensor):
        return [(key, result)]
    if isinstance(result, Mapping):
        items: Any = result.items()
    elif dataclasses.is_dataclass(result):
        items = vars(result).items()
    elif hasattr(result, "_fields"):
        items = zip(result._fields, result, strict=True)
    elif isinstance(result, (list, tuple)):
        items = enumerate(result)
    else:
        return []
    return [leaf for name, value in items for leaf in leaves(value, f"{key}.{name}".lstrip("."))]


def choose_logits(
    heads: list[tuple[str, Node, Tensor]], classes: int | None
) -> tuple[str, Node, Tensor]:
    """The output that is the classifier's: by its key, its columns, its layer, its rank."""

    def rank(head: tuple[str, Node, Tensor]) -> tuple[bool, bool, int, bool, int]:
        key, node, tensor = head
        flat = tensor.dim() == 2
        last = key.rpartition(".")[2].lower()
        named = _LOGITS.index(last) if last in _LOGITS else len(_LOGITS)
        end = node
        while end.kind in ("softmax", "act", "slice", "scale") and end.inputs:
            end = end.inputs[0]
        return (
            not flat,
            not (flat and classes is not None and tensor.shape[1] == classes),
            named,
            end.kind != "linear",
            0 if flat else -node.index,  # of feature maps the deepest
        )

    return min(heads, key=rank)


@contextmanager
def _hooks(recorder: Recorder) -> Iterator[None]:
    """Tell the recorder which module is running; global hooks also see unregistered modules."""
    before = nn_module.register_module_forward_pre_hook(recorder.enter)
    after = nn_module.register_module_forward_hook(recorder.leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()
