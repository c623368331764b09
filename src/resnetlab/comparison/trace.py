"""One forward pass as a graph with all that it returned; the first pass, and why it may end."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from resnetlab.comparison.operations import POOLS, Crash, Cut, Node, behind
from resnetlab.comparison.recorder import Recorder, is_candidates_own, is_ours, own_lines
from resnetlab.comparison.report import Findings, phrase
from resnetlab.errors import UserError

_LOGITS = ("logits", "logit", "out", "output", "outputs", "pred", "prediction", "predictions", "y")
"""Keys under which networks return their classifier's output, likeliest first."""


@dataclass
class Trace:
    """One forward pass; ``output`` is the node behind the logits, None after a crash."""

    nodes: list[Node]
    output: Node | None = None
    logits: Tensor | None = None
    images: Tensor = field(default_factory=lambda: torch.empty(0))
    """what it was given"""
    returned: type = object
    """what forward returns"""
    heads: list[tuple[str, Node, Tensor]] = field(default_factory=list)
    """every tensor of the output: (its key or index, node, tensor)"""
    crash: Crash | None = None
    random: list[tuple[str, str, tuple[str, int] | None]] = field(default_factory=list)
    """(place, operation, line where no layer of torch draws) of every draw of random numbers"""
    unregistered: dict[str, int] = field(default_factory=dict)
    """parameters in use that the network does not know of: name -> elements"""
    cuts: list[Cut] = field(default_factory=list)
    """every loss of a gradient or of digits"""
    precision: set[str] = field(default_factory=set)
    """number types of the convolutions"""
    calls: dict[str, tuple[str, int] | None] = field(default_factory=dict)
    """path of each module that ran -> the line that called it first"""
    fresh: dict[str, tuple[str, int] | None] = field(default_factory=dict)
    """path of each module that ran and was made in the pass itself -> the line that made it"""

    def live(self, *, every_head: bool = True) -> list[Node]:
        """The operations that the output depends on, in order."""
        heads = [node for _, node, _ in self.heads] if every_head else []
        return behind([*heads, *([self.output] if self.output else [])])


def trace_network(
    model: nn.Module,
    images: Tensor,
    *,
    training: bool = False,
    classes: int | None = None,
    watch: bool = False,
    grad: bool = True,
) -> Trace:
    """Run ``model`` on images (n, c, h, w) and record what it does.

    An exception of the network is not raised but recorded as ``crash``. Leaves the mode and the
    buffers (running statistics) as they were, and keeps no graph of gradients, which would hold
    every activation. ``classes``: the expected columns of the logits. ``watch``: whether the
    operations keep a ``value``. ``grad``: False runs it under ``torch.no_grad``.
    """
    recorder = Recorder(model, watch=watch)
    known = [*model.modules(), *recorder.hidden]
    called: dict[int, Setting] = {}
    with kept(known), _watch_modes(called):
        for module in [model, *recorder.hidden]:
            module.train() if training else module.eval()
        trace = record(recorder, model, images, classes, grad)
        _note_modes(trace, model, training, called)
    trace.heads = [(key, node, tensor.detach()) for key, node, tensor in trace.heads]
    if trace.heads:
        _, trace.output, trace.logits = choose_logits(trace.heads, classes)
    return trace


@contextlib.contextmanager
def kept(modules: list[nn.Module]) -> Iterator[None]:
    """Put the modules' modes and buffers back at the end, and statistics kept as plain tensors."""
    modes = [(module, module.training) for module in modules]
    held = [
        (place, name, tensor, tensor.clone())
        for module in modules
        for place in (module._buffers, vars(module))
        for name, tensor in place.items()
        if isinstance(tensor, Tensor) and (place is module._buffers or not tensor.requires_grad)
    ]
    yield
    with torch.no_grad():
        for place, name, tensor, value in held:
            place[name] = tensor.copy_(value)  # another tensor may have taken its place
    for module, mode in modes:
        module.training = mode


Setting = tuple[str, tuple[str, int]]
"""(function of the candidate's that sets a mode, line)"""


@contextlib.contextmanager
def _watch_modes(called: dict[int, Setting]) -> Iterator[None]:
    """Note, by a module's id, where the candidate's own code has set its mode last."""
    train = nn.Module.train

    def noted(module: nn.Module, mode: bool = True) -> nn.Module:
        called.pop(id(module), None)
        frame, own = sys._getframe(1), []
        while frame is not None and frame.f_code is not trace_network.__code__:
            if is_candidates_own(frame.f_code.co_filename):
                own.append((frame.f_code.co_name, (frame.f_code.co_filename, frame.f_lineno)))
            frame = frame.f_back
        if own:
            called[id(module)] = own[-1][0], own[0][1]
        return train(module, mode)

    nn.Module.train = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.train = train  # type: ignore[method-assign]


def _note_modes(trace: Trace, model: nn.Module, training: bool, called: dict[int, Setting]) -> None:
    """Tell the norms that are in the other mode who has put them there, as far as it is known."""
    modules = dict(model.named_modules())
    own = (getattr(type(model), "train" if training else "eval"), type(model).train)
    codes = [function.__code__ for function in own if hasattr(function, "__code__")]
    overridden = next((c for c in codes if is_candidates_own(c.co_filename)), None)
    for node in trace.nodes:
        module = modules.get(node.place)
        if node.kind != "norm" or module is None or module.training == training:
            continue
        setting = called.get(id(module))
        if setting is None and overridden is not None:
            setting = overridden.co_name, (overridden.co_filename, overridden.co_firstlineno)
        node.settings["mode"] = setting


def record(
    recorder: Recorder, model: nn.Module, images: Tensor, classes: int | None, grad: bool = True
) -> Trace:
    """``trace_network`` with the graph of gradients, without the mode and the buffers put back."""
    trace = Trace(recorder.nodes, images=images)
    images = images.clone()
    images._node = source = recorder.node("input", [], images)  # type: ignore[attr-defined]
    result = None
    with torch.set_grad_enabled(grad), _hooks(recorder):
        try:
            with recorder:
                result = model(images)
        except Exception as error:  # a candidate's code raises anything
            if is_ours(traceback.extract_tb(error.__traceback__)[-1].filename):
                raise  # our own fault, not the candidate's
            trace.crash = recorder.crash(error)
    trace.returned = type(result)
    for key, tensor in leaves(result):
        node = recorder.tag(tensor)
        if isinstance(node, Node):
            trace.heads.append((key, node, tensor))
            recorder.look_for_cut(tensor, node, node)
    if trace.heads:
        _, trace.output, trace.logits = choose_logits(trace.heads, classes)
    elif not trace.crash:
        message = "the output does not depend on the input"
        message = message if result is not None else "forward returns nothing"
        trace.crash = Crash("", None, "", message, (), "", [], [source])
    alive = {node.index for node in trace.live()}
    trace.cuts = [cut for reader, _, cut in recorder.cuts if reader.index in alive]
    trace.random, trace.unregistered = recorder.random, recorder.unregistered
    trace.precision, trace.calls = recorder.precision, recorder.calls
    trace.fresh = recorder.fresh
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


@contextlib.contextmanager
def _hooks(recorder: Recorder) -> Iterator[None]:
    """Tell the recorder which module runs or is made; global hooks also see unregistered ones."""
    construct = nn.Module.__init__

    def constructed(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        construct(module, *args, **kwargs)
        recorder.kept.append(module)
        recorder.constructed[id(module)] = next(own_lines(sys._getframe(1), module), None)

    nn.Module.__init__ = constructed  # type: ignore[method-assign]
    before = nn_module.register_module_forward_pre_hook(recorder.enter)
    after = nn_module.register_module_forward_hook(recorder.leave)
    try:
        yield
    finally:
        nn.Module.__init__ = construct  # type: ignore[method-assign]
        before.remove()
        after.remove()


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
) -> tuple[Trace, int, int]:
    """A trace at the size the stem is made for: (trace, pixels, channels); reports a crash."""
    channels = in_channels or 3
    size = image_size or 32

    def run(size: int) -> Trace:
        return trace_network(model, torch.randn(2, channels, size, size), classes=classes)

    trace = run(size)
    cause = explain_crash(trace.crash, size) if trace.crash else Cause("crash", "")
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
    head = cause.kind == "fixed-size" and cause.sentence == "features"
    kind = "head-shape" if head else cause.kind
    line = line if cause.node is None else None
    where = cause.place or where
    found.add(kind, cause.what, where, remedy=cause.remedy, node=cause.node, line=line)
    return trace, size


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
    one, two = (prod(max(n.settings.get("stride") or (1,)) for n in p) for p in (branch, shortcut))
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
