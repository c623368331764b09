"""What a network does to an image: its operations, in order, with the place that calls each.

A ``TorchDispatchMode`` sees below every style of writing (modules, ``F.relu``, ``x += y``), and
on real numbers, so that control flow which torch.fx cannot follow is followed. A tensor carries the
operation that made it as a Python attribute; constants carry the parameters that they come from.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resnetlab.comparison.operations import FACTORIES, RANDOM, Description, Node, describe

_TORCH = os.path.dirname(torch.__file__)
_HERE = os.path.dirname(__file__)


@dataclass
class Crash:
    """Where a forward pass ended: place, what came in, the operation, torch's message."""

    place: str
    line: str
    message: str
    input_shape: tuple[int, ...]
    operation: str
    shapes: list[tuple[int, ...]]
    nodes: list[Node]

    @property
    def label(self) -> str:
        """Module and line."""
        return f"{self.place} ({self.line})".lstrip() if self.line else self.place


@dataclass
class Trace:
    """One forward pass; ``output`` is the node behind the logits, None after a crash."""

    nodes: list[Node]
    output: Node | None = None
    result: Any = None
    crash: Crash | None = None
    random: list[tuple[str, str]] = field(default_factory=list)
    """(place, operation) of every draw of random numbers"""
    unregistered: dict[str, int] = field(default_factory=dict)
    """parameters in use that the network does not know of: name -> elements"""


def trace_network(model: nn.Module, images: Tensor, *, training: bool = False) -> Trace:
    """Run ``model`` on images (n, c, h, w) without gradients and record what it does.

    An exception of the network is not raised but recorded as ``crash``. Leaves the mode and the
    buffers (running statistics) as they were.
    """
    recorder = _Recorder(model)
    known = [*model.modules(), *recorder.hidden]
    modes = [(module, module.training) for module in known]
    buffers = [(b, b.clone()) for module in known for b in module.buffers(recurse=False)]
    for module in [model, *recorder.hidden]:
        module.train(training)
    images = images.clone()
    images._node = source = recorder.node("input", [], images)  # type: ignore[attr-defined]
    result, crash = None, None
    with torch.no_grad(), _hooks(recorder):
        try:
            with recorder:
                result = model(images)
        except Exception as error:  # strangers' code raises anything
            crash = recorder.crash(error)
        for buffer, value in buffers:
            buffer.copy_(value)
    for module, mode in modes:
        module.training = mode
    logits = first_tensor(result)
    output = recorder.tag(logits) if logits is not None else None
    if not crash and not isinstance(output, Node):
        crash = Crash("", "", "the output does not depend on the input", (), "", [], [source])
        output = None
    return Trace(
        recorder.nodes,
        output if isinstance(output, Node) else None,
        result,
        crash,
        recorder.random,
        recorder.unregistered,
    )


def first_tensor(result: Any) -> Tensor | None:
    """The logits of an output that may be a tuple, list, dict or data class of tensors."""
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    return next((leaf for leaf in leaves if leaf.dim() == 2), leaves[0] if leaves else None)


class _Recorder(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.stack: list[tuple[str, nn.Module, tuple[int, ...]]] = []
        self.random: list[tuple[str, str]] = []
        self.unregistered: dict[str, int] = {}
        self.failed: tuple[str, list[tuple[int, ...]], list[Node]] | None = None
        self.hidden: list[nn.Module] = []
        """modules in plain lists and dictionaries"""
        self.paths = {id(m): n for n, m in model.named_modules()}
        for name, module in list(model.named_modules()):
            self._find_hidden(name, module)
        tensors = [*model.named_parameters(), *model.named_buffers()]
        self.names = {id(tensor): name for name, tensor in tensors}
        self.kept: list[nn.Module] = []

    def _find_hidden(self, name: str, module: nn.Module) -> None:
        """Give a path to modules in plain lists and dictionaries, which PyTorch does not see."""
        for key, value in vars(module).items():
            if key.startswith("_") and key in nn.Module().__dict__:
                continue
            items = value.items() if isinstance(value, dict) else ()
            items = enumerate(value) if isinstance(value, (list, tuple)) else items
            for index, item in items:
                if isinstance(item, nn.Module) and id(item) not in self.paths:
                    path = f"{name}.{key}[{index}]".lstrip(".")
                    for inner, child in item.named_modules(prefix=path):
                        self.paths.setdefault(id(child), inner)
                        self.hidden.append(child)

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        outer = self.stack[-1][0] if self.stack else ""
        if id(module) not in self.paths:
            self.paths[id(module)] = f"{outer}.<{type(module).__name__}>".lstrip(".")
            self.kept.append(module)  # its id must not be given to another
        path = self.paths[id(module)]
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in self.names:
                full = f"{path}.{name}"
                self.names[id(parameter)] = full
                self.unregistered[full] = parameter.numel()
        first = next((a for a in args if isinstance(a, Tensor)), None)
        self.stack.append((path, module, tuple(first.shape) if first is not None else ()))

    def leave(self, module: nn.Module) -> None:
        while self.stack and self.stack.pop()[1] is not module:
            pass

    def node(
        self, kind: str, inputs: list[Node], out: Tensor, settings: dict[str, Any] | None = None
    ) -> Node:
        path, module = (self.stack[-1][0], self.stack[-1][1]) if self.stack else ("", None)
        own = module is None or not type(module).__module__.startswith("torch.nn")
        node = Node(
            kind,
            inputs,
            path,
            _line() if own and self.nodes else "",
            tuple(out.shape),
            settings or {},
            index=len(self.nodes),
            owner=self,
        )
        if module is not None:
            node.settings["module"] = type(module).__name__
        self.nodes.append(node)
        return node

    def tag(self, tensor: Tensor) -> Node | frozenset[str]:
        """The operation behind a tensor, or, of a constant, the parameters behind it."""
        mark = getattr(tensor, "_node", None)
        if isinstance(mark, Node) and mark.owner is self:
            return mark
        if id(tensor) in self.names:
            return frozenset([self.names[id(tensor)]])
        return mark if isinstance(mark, frozenset) else frozenset()

    def crash(self, error: Exception) -> Crash:
        path, _, shape = self.stack[-1] if self.stack else ("", None, ())
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        own = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith((_TORCH, _HERE)) and "<" not in frame.filename
        ]
        line = f"{os.path.basename(own[-1].filename)}, line {own[-1].lineno}" if own else ""
        name, shapes, nodes = self.failed or ("", [], [])
        if not isinstance(error, (RuntimeError, IndexError, ValueError)):
            name = ""
        return Crash(path, line, message, shape, name, shapes, nodes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        tags = [self.tag(tensor) for tensor in tensors]
        inputs = [tag for tag in tags if isinstance(tag, Node)]
        constants = frozenset().union(*(tag for tag in tags if isinstance(tag, frozenset)))
        in_shape = tuple(tensors[0].shape) if tensors else ()
        try:
            out = func(*args, **kwargs)
        except Exception:
            shapes = [tuple(tensor.shape) for tensor in tensors]
            self.failed = (name.rstrip("_"), shapes, inputs)
            raise
        name = name.rstrip("_") or name
        if name in RANDOM:
            self.random.append((self.stack[-1][0] if self.stack else "", name))
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not outputs or name in FACTORIES:
            return out
        noise = any(hasattr(x, "_noise") for x in tensors) or name in RANDOM
        if noise and not inputs:
            for tensor in outputs:
                tensor._noise = True  # type: ignore[attr-defined]
        mark: Node | frozenset[str] = constants
        if noise and len(inputs) == 1 and name in ("mul", "div", "add", "sub", "where"):
            mark = inputs[0]  # dropout and the like, which ``random`` tells of
        elif inputs:
            mark = self.record(name, args, inputs, constants, outputs[0], in_shape)
        for tensor in outputs:
            if (mark or hasattr(tensor, "_node")) and id(tensor) not in self.names:
                tensor._node = mark  # type: ignore[attr-defined]
        base = args[0]._base if func._schema.is_mutable and isinstance(args[0], Tensor) else None
        if base is not None and isinstance(mark, Node):  # written through a view
            before = self.tag(base)
            old = [before] if isinstance(before, Node) and before is not mark else []
            same = base.numel() == args[0].numel()
            target = mark if same else self.node("pad", [*old, mark], base)
            base._node = target  # type: ignore[attr-defined]
        return out

    def record(
        self,
        name: str,
        args: tuple[Any, ...],
        inputs: list[Node],
        constants: frozenset[str],
        out: Tensor,
        in_shape: tuple[int, ...],
    ) -> Node | frozenset[str]:
        """The node of one operation; of one that changes no values, the node that it reads."""
        what = describe(name, args, inputs, constants, out, in_shape)
        if not isinstance(what, Description):
            return what
        node = self.node(what.kind, list(what.inputs), out, what.settings)
        node.tensors, node.names = what.tensors, tuple(sorted(constants))
        if node.kind in ("conv", "linear") and not constants:  # weights made on the way
            weight = node.tensors[0]
            name = f"{node.place}.weight".lstrip(".")
            self.unregistered.setdefault(name, weight.numel() if weight is not None else 0)
        return node


def _line() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _HERE)) and not file.startswith("<"):
            return f"{os.path.basename(file)}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""


@contextmanager
def _hooks(recorder: _Recorder) -> Iterator[None]:
    """Tell the recorder which module is running; global hooks also see unregistered modules."""
    before = nn_module.register_module_forward_pre_hook(recorder.enter)
    after = nn_module.register_module_forward_hook(lambda module, args, out: recorder.leave(module))
    try:
        yield
    finally:
        before.remove()
        after.remove()
