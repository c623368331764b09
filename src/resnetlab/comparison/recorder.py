"""What a network does to an image: its operations, in order, with the place that calls each.

A ``TorchDispatchMode`` sees below every style of writing (modules, ``F.relu``, ``x += y``), and
on real numbers, so that control flow which torch.fx cannot follow is followed. A tensor carries the
operation that made it as a Python attribute; constants carry the names that they come from.
Gradients are on, so that a tensor which has lost its own is seen where it is read.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from resnetlab.comparison.handmade import UNDERSTOOD, is_candidate, recognise
from resnetlab.comparison.operations import (
    FACTORIES,
    RANDOM,
    VIEWS,
    Crash,
    Cut,
    Description,
    Node,
    describe,
    map_behind,
)

_TORCH = os.path.join(os.path.dirname(str(torch.__file__)), "")
_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


_WITH_NOISE = ("mul", "div", "add", "sub", "where")
_OF_EVERY_MODULE = frozenset(key for key in vars(nn.Module()) if key.startswith("_"))


class Recorder(TorchDispatchMode):
    """Records one forward pass; see ``trace_network``."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes seconds

    def __init__(self, model: nn.Module, *, watch: bool = False) -> None:
        super().__init__()
        self.watch = watch
        """whether nodes keep a ``value`` of the first image"""
        self.token = object()
        """what its nodes know it by: a cycle would keep the network until Python collects it"""
        self.nodes: list[Node] = []
        self.stack: list[tuple[str, nn.Module, Tensor | None, int]] = []
        self.calls: dict[str, tuple[str, int] | None] = {}
        """path of each module that ran -> the line that called it first"""
        self.random: list[tuple[str, str, tuple[str, int] | None]] = []
        self.unregistered: dict[str, int] = {}
        self.cuts: list[tuple[Node, Node, Cut]] = []
        """(operation, what it reads without its gradient, where and how that was lost)"""
        self.detached: tuple[Tensor, Cut] | None = None
        """the last tensor that was detached, as it is before it leaves torch"""
        self.saved: dict[int, Tensor] | None = None
        """what the gradients need, by its memory, if that is watched (``watch_saved``)"""
        self.overwritten: list[Cut] = []
        """writes into it"""
        self.constructed: dict[int, tuple[str, int] | None] = {}
        """modules that are made while the network runs -> the line"""
        self.fresh: dict[str, tuple[str, int] | None] = {}
        """path of each such that ran -> the line"""
        self.batch = 0
        self.precision: set[str] = set()
        self.failed: tuple[str, list[tuple[int, ...]], list[Node]] | None = None
        self.hidden: list[nn.Module] = []
        """modules in plain lists and dictionaries"""
        self.paths = {id(m): n for n, m in model.named_modules()}
        for name, module in list(model.named_modules()):
            self._find_hidden(name, module)
        self.attributes = {
            id(value)
            for module in [*model.modules(), *self.hidden]
            for value in vars(module).values()
            if isinstance(value, Tensor)
        }
        """tensors that a module holds as such"""
        self.root = model
        self.learned = {id(p): (name, p) for name, p in model.named_parameters()}
        self.names = {id(b): name for name, b in model.named_buffers()}
        self.names |= {key: name for key, (name, _) in self.learned.items()}
        self.parameters = dict(self.learned.values())
        self.kept: list[Any] = [*model.buffers(), *model.parameters()]
        """what must not be freed, lest its id be given to another"""

    def _find_hidden(self, name: str, module: nn.Module) -> None:
        """Give a path to modules in plain lists and dictionaries, which PyTorch does not see."""
        for key, value in vars(module).items():
            if key in _OF_EVERY_MODULE:
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
            self.kept.append(module)
        path = self.paths[id(module)]
        if id(module) in self.constructed:
            self.fresh[path] = self.constructed[id(module)]
        if path not in self.calls:
            self.calls[path] = own_line(sys._getframe(1))
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in self.names:
                full = f"{path}.{name}"
                self.names[id(parameter)] = full
                self.parameters[full] = parameter
                self.unregistered[full] = parameter.numel()
        x = next((a for a in args if isinstance(a, Tensor)), None)
        if x is not None and module is not self.root and is_candidate(module):
            node = self.tag(x)
            with _disable_current_modes():
                x = x.detach().clone()  # the layer may write into it
            x._node = node  # type: ignore[attr-defined]
        self.stack.append((path, module, x, len(self.nodes)))

    def leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        while self.stack:
            path, other, x, start = self.stack.pop()
            if other is module:
                break
        else:
            return
        made = self.nodes[start:]
        kinds = {node.kind for node in made}
        if not made or (len(made) == 1 and kinds <= UNDERSTOOD) or kinds & {"conv"}:
            return
        if not (isinstance(x, Tensor) and isinstance(out, Tensor)) or not is_candidate(module):
            return
        source = getattr(x, "_node", None)
        if not isinstance(source, Node) or module is self.root:
            return
        with _disable_current_modes():
            layer = recognise(module, x, out, source)
        if layer is None:
            return
        self.stack.append((path, module, x, start))
        node = self.node(layer.kind, layer.inputs, out, layer.settings, layer.tensors)
        node.settings["computed at"] = next((n.location for n in made if n.location), None)
        self.stack.pop()
        node.direct = False
        node.names = tuple(f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters())
        node.buffers = tuple(f"{path}.{name}".lstrip(".") for name, _ in module.named_buffers())
        node.learns = source.learns or any(p.requires_grad for p in module.parameters())
        out._node = node  # type: ignore[attr-defined]

    def node(
        self,
        kind: str,
        inputs: list[Node],
        out: Tensor,
        settings: dict[str, Any] | None = None,
        tensors: tuple[Tensor | None, ...] = (),
    ) -> Node:
        path, module = (self.stack[-1][0], self.stack[-1][1]) if self.stack else ("", None)
        node = Node(
            kind,
            inputs,
            path,
            own_line(sys._getframe(1)) if self.nodes else None,
            module is None or not type(module).__module__.startswith("torch.nn"),
            tuple(out.shape),
            settings or {},
            tensors,
            index=len(self.nodes),
            owner=self.token,
            learns=any(parent.learns for parent in inputs),
        )
        if not self.nodes:
            self.batch = len(out)
        if self.watch:
            node.value = _value(out)
        self.nodes.append(node)
        return node

    @contextlib.contextmanager
    def watch_saved(self) -> Iterator[None]:
        """Note writes into what operations have kept for their gradients: backward is no more."""
        self.saved = {}

        def keep(tensor: Tensor) -> None:
            self.saved[_memory(tensor)] = tensor  # type: ignore[index]

        with saved_tensors_hooks(keep, lambda _: torch.empty(0)):
            yield

    def _look_for_write(self, func: Any, args: tuple[Any, ...]) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            info = argument.alias_info
            if info is None or not info.is_write or not isinstance(value, Tensor):
                continue
            if _memory(value) in self.saved and isinstance(self.tag(value), Node):  # type: ignore[operator]
                path = self.stack[-1][0] if self.stack else ""
                self.overwritten.append(Cut(path, own_line(sys._getframe(1)), "in place"))

    def tag(self, tensor: Tensor) -> Node | frozenset[str]:
        """The operation behind a tensor, or, of a constant, the names behind it."""
        mark = getattr(tensor, "_node", None)
        if isinstance(mark, Node) and mark.owner is self.token:
            return mark
        if id(tensor) in self.names:
            return frozenset([self.names[id(tensor)]])
        unknown = mark is None and id(tensor) not in self.attributes
        if unknown and self.detached and tensor.dim() > 1 and len(tensor) == self.batch > 1:
            return self._from_outside(tensor, *self.detached)
        return mark if isinstance(mark, frozenset) else frozenset()

    def _from_outside(self, tensor: Tensor, source: Tensor, cut: Cut) -> Node:
        """The operation behind a tensor that no operation of torch has made: numpy has.

        It has a row for each image, and is taken to come from what was detached last.
        """
        read = self.tag(source)
        assert isinstance(read, Node)
        with _disable_current_modes():
            held, mean = source.detach(), source.detach().flatten(2).mean(-1)
            same, pooled = (
                x.numel() == tensor.numel() and torch.allclose(x.flatten(), tensor.flatten().to(x))
                for x in (held, mean)
            )
        if not same:
            settings = {"in_shape": tuple(source.shape)}
            read = self.node("globalpool" if pooled else "outside", [read], tensor, settings)
        tensor._node, tensor._cut = read, Cut(cut.place, cut.location, "outside")  # type: ignore[attr-defined]
        return read

    def look_for_cut(self, tensor: Tensor, read: Node, reader: Node) -> None:
        """Note a tensor that has lost digits, or the gradient that it should pass."""
        if rounded := getattr(tensor, "_rounded", None):
            self.cuts.append((reader, read, rounded))
        passes = tensor.requires_grad or not torch.is_grad_enabled()
        if not read.learns or passes or not tensor.is_floating_point():
            return
        cut = getattr(tensor, "_cut", Cut(read.place, read.location, "detach"))
        while read.without_gradient and any(n.without_gradient for n in read.inputs):
            read = next(n for n in read.inputs if n.without_gradient)
        if read.without_gradient:
            cut = Cut(read.place, read.location, "no_grad")
        self.cuts.append((reader, read, cut))

    def crash(self, error: Exception) -> Crash:
        path, shape = "", ()
        if self.stack:
            path, _, x, _ = self.stack[-1]
            shape = tuple(x.shape) if isinstance(x, Tensor) else ()
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        own = [
            (frame.f_code.co_filename, number)
            for frame, number in traceback.walk_tb(error.__traceback__)
            if is_candidates_own(frame.f_code.co_filename)
        ]
        written = [place for place in own if "site-packages" not in place[0]] or own
        name, shapes, nodes = self.failed or ("", [], [])
        if not isinstance(error, (RuntimeError, IndexError, ValueError)):
            name = ""
        place = written[-1] if written else None
        return Crash(path, place, type(error).__name__, message, shape, name, shapes, nodes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        tags = [self.tag(tensor) for tensor in tensors]
        read = [(t, tag) for t, tag in zip(tensors, tags, strict=True) if isinstance(tag, Node)]
        before = _statistics(name, args)
        if self.saved is not None and torch.is_grad_enabled():
            self._look_for_write(func, args)
        try:
            out = func(*args, **kwargs)
        except Exception:
            shapes = [tuple(tensor.shape) for tensor in tensors]
            self.failed = (name.rstrip("_"), shapes, [tag for _, tag in read])
            raise
        name = name.rstrip("_") or name
        if name in RANDOM:
            path, module = self.stack[-1][:2] if self.stack else ("", self.root)
            torchs = type(module).__module__.startswith("torch.nn")
            line = None if torchs else own_line(sys._getframe(1))
            self.random.append((path, name, line))
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not outputs or name in FACTORIES:
            for tensor in outputs:
                tensor._node = frozenset()  # type: ignore[attr-defined]
            return out
        mark = self._mark(name, before or args, kwargs, tensors, tags, outputs[0])
        for tensor in outputs:
            if id(tensor) not in self.names:
                tensor._node = mark  # type: ignore[attr-defined]
        self._follow(name, args, kwargs, read, outputs[0])
        base = args[0]._base if func._schema.is_mutable and isinstance(args[0], Tensor) else None
        if base is not None and isinstance(mark, Node):  # written through a view
            held = self.tag(base)
            old = [held] if isinstance(held, Node) and held is not mark else []
            same = base.numel() == args[0].numel()
            base._node = mark if same else self.node("pad", [*old, mark], base)  # type: ignore[attr-defined]
        return out

    def _follow(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        read: list[tuple[Tensor, Node]],
        out: Tensor,
    ) -> None:
        """Carry along what a tensor's node does not say: losses and swapped axes."""
        if not read:
            return
        x = read[0][0]
        cut = getattr(x, "_cut", None)
        if name == "detach" and torch.is_grad_enabled() and x.requires_grad:
            path = self.stack[-1][0] if self.stack else ""
            cut = Cut(path, own_line(sys._getframe(1)), "detach")
            self.detached = (x, cut)
        if name in VIEWS and out is not x and name != "detach":
            # Autograd detaches what it keeps: a way back from there would be a cycle.
            out._map = map_behind(x)  # type: ignore[attr-defined]
        rounded = getattr(x, "_rounded", None)
        if name == "_to_copy" and _is_rounded(x, out):
            path, kind = self.stack[-1][0] if self.stack else "", str(out.dtype)
            rounded = Cut(path, own_line(sys._getframe(1)), kind.removeprefix("torch."))
        if rounded is not None and name in VIEWS and out is not x:
            out._rounded = rounded  # type: ignore[attr-defined]
        if cut is not None and out is not x and not out.requires_grad:
            out._cut = cut  # type: ignore[attr-defined]
        axes = getattr(x, "_axes", None) or tuple(range(x.dim()))
        if name in ("transpose", "permute", "t") and x.dim() == 4:
            order = list(range(4))
            if name == "permute":
                order = [axis % 4 for axis in args[1]]
            elif name == "transpose":
                first, second = args[1] % 4, args[2] % 4
                order[first], order[second] = order[second], order[first]
            axes = tuple(axes[axis] for axis in order)
        if out.dim() == x.dim() == 4 and out is not x and name != "convolution":
            out._axes = axes  # type: ignore[attr-defined]

    def _mark(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
        tags: list[Node | frozenset[str]],
        out: Tensor,
    ) -> Node | frozenset[str]:
        """The node of one operation; of one that changes no values, the node that it reads."""
        inputs = [tag for tag in tags if isinstance(tag, Node)]
        pairs = list(zip(tensors, tags, strict=True))
        constants = [t for t, tag in pairs if not isinstance(tag, Node)]
        names = frozenset().union(*(tag for tag in tags if isinstance(tag, frozenset)))
        noise = any(hasattr(x, "_noise") for x in tensors) or name in RANDOM
        if noise and not inputs:
            out._noise = True  # type: ignore[attr-defined]
        rescales = name in ("mul", "div") and not constants and hasattr(tensors[0], "_noisy")
        if (noise or rescales) and len(inputs) == 1 and name in _WITH_NOISE:
            out._noisy = True  # type: ignore[attr-defined]
            return inputs[0]  # dropout and the like, which ``random`` tells of
        if not inputs:
            return names
        in_shape = tuple(tensors[0].shape) if tensors else ()
        what = describe(name, args, inputs, constants, out, in_shape)
        if what is None:
            return names
        if isinstance(what, Node):
            return what
        alpha = kwargs.get("alpha", 1)
        if name == "add" and alpha != 1 and len(what.inputs) == 2:  # torch.add(x, y, alpha=0.1)
            settings = {"factor": alpha, "operation": "mul"}
            what.inputs = [what.inputs[0], self.node("scale", [what.inputs[1]], out, settings)]
        return self._record(what, names, pairs, out)

    def _record(
        self,
        what: Description,
        names: frozenset[str],
        pairs: list[tuple[Tensor, Node | frozenset[str]]],
        out: Tensor,
    ) -> Node:
        node = self.node(what.kind, list(what.inputs), out, what.settings, what.tensors)
        folded = [n for t, n in pairs if isinstance(n, Node) and n.kind == node.kind]
        if folded and folded[0] not in node.inputs and node.kind in ("conv", "linear"):
            names |= {*folded[0].names, *folded[0].buffers}  # a bias was added to a bare layer
            node.place, node.direct = folded[0].place, folded[0].direct
            self.cuts = [(node if r is folded[0] else r, n, cut) for r, n, cut in self.cuts]
        node.names = tuple(sorted(name for name in names if name in self.parameters))
        node.buffers = tuple(sorted(name for name in names if name not in self.parameters))
        node.learns |= any(self.parameters[name].requires_grad for name in node.names)
        if node.kind in ("conv", "linear"):
            self._weights_of(node)
        if node.kind == "conv":
            self._padding_of(node)
            self.precision.add(str(out.dtype).removeprefix("torch."))
        if not torch.is_grad_enabled():
            node.without_gradient = any(parent.learns for parent in node.inputs)
        for tensor, tag in pairs:
            if not isinstance(tag, Node):
                continue
            self.look_for_cut(tensor, tag, node)
            axes = getattr(tensor, "_axes", None)
            if axes and axes[2:] != (2, 3) and node.kind in ("conv", "globalpool", "maxpool"):
                node.settings["axes"] = axes
        return node

    def _padding_of(self, node: Node) -> None:
        """Read how a torch module pads, of which the operations tell in many words."""
        module, x = (self.stack[-1][1], self.stack[-1][2]) if self.stack else (None, None)
        mode = getattr(module, "padding_mode", "zeros")
        source = self.tag(x) if isinstance(x, Tensor) else None
        if isinstance(module, nn.Conv2d) and mode != "zeros" and isinstance(source, Node):
            node.inputs, node.settings["padding mode"] = [source], mode
            if isinstance(module.padding, tuple):
                node.settings["padding"] = tuple(module.padding)

    def _weights_of(self, node: Node) -> None:
        """Say where a layer's weight comes from if it is no parameter: made on the way, or held."""
        weight = node.tensors[0]
        assert weight is not None
        tag = self.tag(weight)
        origin = tag if isinstance(tag, frozenset) else frozenset()
        learned = [name for name in origin if name in self.parameters]
        held = {self.parameters[n].untyped_storage().data_ptr() for n in learned}
        own = weight.untyped_storage().data_ptr() in held
        node.settings["computed"] = bool(learned) and not own
        if learned or node.settings.get("by_hand"):
            return
        flat = weight.detach().reshape(weight.shape[0], -1)
        depthwise = node.kind == "conv" and node.settings["groups"] == weight.shape[0] > 1
        if depthwise and bool((flat == flat[0]).all()):
            node.kind = "blur"
        elif origin:
            node.settings["held"] = sorted(origin)[0]
        elif not node.names:
            name = f"{node.place}.weight".lstrip(".")
            self.unregistered.setdefault(name, weight.numel())


def _is_rounded(x: Tensor, out: Tensor) -> bool:
    """Whether a cast by the author's own hand, not by autocast, leaves half precision or less."""
    nested = torch.autocast_increment_nesting() > 1
    torch.autocast_decrement_nesting()
    floats = x.is_floating_point() and out.is_floating_point()
    return floats and not nested and out.element_size() < min(4, x.element_size())


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _value(out: Tensor) -> tuple[float, float]:
    """A number that depends on the first image's values and on their order, and their norm."""
    with _disable_current_modes(), torch.no_grad():
        row = (out[0] if out.dim() else out).double().flatten()
        return float(row @ torch.arange(row.numel()).double().cos()), float(row.norm())


def _statistics(name: str, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The arguments of a batch norm with its statistics as they are before it moves them."""
    if "batch_norm" not in name or len(args) < 5:
        return None
    return (*args[:3], *(a.clone() if isinstance(a, Tensor) else a for a in args[3:5]), *args[5:])


def is_candidates_own(file: str) -> bool:
    """Whether code of this file is neither torch's nor ours nor Python's."""
    return not file.startswith((_TORCH, _HERE, "<")) and "importlib" not in file


def own_line(frame: FrameType | None) -> tuple[str, int] | None:
    """The innermost line of the candidate's own file; of a library, where there is no such file."""
    return next(own_lines(frame), None)


def own_lines(
    frame: FrameType | None, module: nn.Module | None = None
) -> Iterator[tuple[str, int]]:
    """The lines of the candidate's own files that led to a call, innermost first.

    Of a library's, where there are no such files. The constructors of ``module`` are passed over.
    """
    library: list[tuple[str, int]] = []
    own = outside = False
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_HERE):
            if outside:
                break  # beyond are those who called us
        else:
            outside = True
            if is_candidates_own(code.co_filename) and not _constructs(frame, module):
                place = (code.co_filename, frame.f_lineno)
                if "site-packages" in code.co_filename:
                    library.append(place)
                else:
                    own = True
                    yield place
        frame = frame.f_back
    if not own:
        yield from library


def _constructs(frame: FrameType, module: nn.Module | None) -> bool:
    names = frame.f_code.co_varnames
    if module is None or frame.f_code.co_name != "__init__" or not names:
        return False
    return frame.f_locals.get(names[0]) is module


def is_ours(file: str) -> bool:
    return file.startswith(_HERE)
