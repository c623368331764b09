"""What a network does to an image: its operations, in order, with the place that calls each.

A ``TorchDispatchMode`` sees below every style of writing (modules, ``F.relu``, ``x += y``), and
on real numbers, so that control flow which torch.fx cannot follow is followed. A tensor carries the
operation that made it as a Python attribute; constants carry the names that they come from.
Gradients are on, so that a tensor which has lost its own is seen where it is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules import module as nn_module
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from resnetlab.comparison.candidate import (
    Location,
    is_candidates_own,
    is_ours,
    line_words,
    own_line,
    own_lines,
)
from resnetlab.comparison.operations import (
    FACTORIES,
    RANDOM,
    UNDERSTOOD,
    VIEWS,
    Call,
    Node,
    behind,
    describe,
    is_own_layer,
    map_behind,
    recognise,
)

_LOGITS = ("logits", "logit", "out", "output", "outputs", "pred", "prediction", "predictions", "y")
"""Keys under which networks return their classifier's output, likeliest first."""
_WITH_NOISE = ("mul", "div", "add", "sub", "where")
_OF_EVERY_MODULE = frozenset(key for key in vars(nn.Module()) if key.startswith("_"))


@dataclass(frozen=True)
class Cut:
    """Where something is lost on the way, and how.

    A gradient by detach, no_grad, in place (a write) or outside (of torch); digits by a cast, which
    the number type names.
    """

    place: str
    location: Location | None
    how: str


@dataclass
class Crash:
    """Where a forward pass ended: place, what came in, the operation, torch's message."""

    place: str
    location: Location | None
    error: str
    """name of the exception's class"""
    message: str
    input_shape: tuple[int, ...]
    operation: str
    shapes: list[tuple[int, ...]]
    nodes: list[Node]

    @property
    def label(self) -> str:
        """Module and line."""
        line = f" ({line_words(self.location)})" if self.location else ""
        return f"{self.place}{line}".lstrip()


@dataclass
class Trace:
    """One forward pass; ``output`` is the node behind the logits, None after a crash."""

    nodes: list[Node] = field(default_factory=list)
    output: Node | None = None
    logits: Tensor | None = None
    images: Tensor = field(default_factory=lambda: torch.empty(0))
    """what it was given"""
    returned: type = object
    """what forward returns"""
    heads: list[tuple[str, Node, Tensor]] = field(default_factory=list)
    """every tensor of the output: (its key or index, node, tensor)"""
    crash: Crash | None = None
    random: list[tuple[str, str, Location | None]] = field(default_factory=list)
    """(place, operation, line where no layer of torch draws) of every draw of random numbers"""
    unregistered: dict[str, int] = field(default_factory=dict)
    """parameters in use that the network does not know of: name -> elements"""
    cuts: list[Cut] = field(default_factory=list)
    """every loss of a gradient or of digits"""
    precision: set[str] = field(default_factory=set)
    """number types of the convolutions"""
    calls: dict[str, Location | None] = field(default_factory=dict)
    """path of each module that ran -> the line that called it first"""
    writes: dict[str, Location | None] = field(default_factory=dict)
    """parameter that the pass writes into -> the line"""
    fresh: dict[str, Location | None] = field(default_factory=dict)
    """path of each module that ran and was made in the pass itself -> the line that made it"""

    def live(self) -> list[Node]:
        """The operations that anything which forward returns depends on, in order."""
        return behind([node for _, node, _ in self.heads])


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
        trace = recorder.run(images, classes, grad=grad, keep_graph=False)
        _note_modes(trace, model, training, called)
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


Setting = tuple[str, Location]
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
    model: nn.Module, images: Tensor, classes: int | None, *, grad: bool = True, watch: bool = False
) -> Trace:
    """``trace_network`` with the graph of gradients, without the mode and the buffers put back."""
    return Recorder(model, watch=watch).run(images, classes, grad=grad)


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


@dataclass
class Running:
    """A module that is running."""

    path: str
    module: nn.Module
    x: Tensor | None
    """what it was given"""
    start: int
    """index of its first operation"""


class Recorder(TorchDispatchMode):
    """Records one forward pass; see ``trace_network``."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes seconds

    def __init__(self, model: nn.Module, *, watch: bool = False) -> None:
        super().__init__()
        self.model = model
        self.watch = watch
        """whether nodes keep a ``value`` of the first image"""
        self.trace = Trace()
        self.token = object()
        """what its nodes know it by: a cycle would keep the network until Python collects it"""
        self.stack = [Running("", model, None, 0)]
        self.cuts: list[tuple[Node, Node, Cut]] = []
        """(operation, what it reads without its gradient, where and how that was lost)"""
        self.detached: tuple[Tensor, Cut] | None = None
        """the last tensor that was detached, as it is before it leaves torch"""
        self.saved: dict[int, Tensor] | None = None
        """what the gradients need, by its memory, if that is watched (``watch_saved``)"""
        self.overwritten: list[Cut] = []
        """writes into it"""
        self.failed: tuple[str, list[tuple[int, ...]], list[Node]] = ("", [], [])
        """the operation that raised an error, and what it was given"""
        self.constructed: dict[int, Location | None] = {}
        """modules that are made while the network runs -> the line"""
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
        self.parameters = dict(model.named_parameters())
        owned = [*model.named_buffers(), *self.parameters.items()]
        self.names = {id(tensor): name for name, tensor in owned}
        self.kept: list[Any] = [tensor for _, tensor in owned]
        """what must not be freed, lest its id be given to another"""

    def run(
        self,
        images: Tensor,
        classes: int | None = None,
        *,
        grad: bool = True,
        keep_graph: bool = True,
    ) -> Trace:
        """Record a pass; with ``keep_graph`` the outputs keep their gradients' graph."""
        trace, result = self.trace, None
        trace.images, images = images, images.clone()
        source = self.add(Node("input", []), images)
        images._node = source  # type: ignore[attr-defined]
        before = nn_module.register_module_forward_pre_hook(self.enter)
        after = nn_module.register_module_forward_hook(self.leave)  # of unregistered modules too
        try:
            with torch.set_grad_enabled(grad), self._watch_constructors(), self:
                result = self.model(images)
        except Exception as error:  # a candidate's code raises anything
            if is_ours(traceback.extract_tb(error.__traceback__)[-1].filename):
                raise  # our own fault, not the candidate's
            trace.crash = self.crash(error)
        finally:
            before.remove()
            after.remove()
        trace.returned = type(result)
        for key, tensor in leaves(result):
            node = self.tag(tensor)
            if isinstance(node, Node):
                trace.heads.append((key, node, tensor if keep_graph else tensor.detach()))
                self.look_for_cut(tensor, node, node)
        if trace.heads:
            _, trace.output, trace.logits = choose_logits(trace.heads, classes)
        elif not trace.crash:
            message = "the output does not depend on the input"
            message = message if result is not None else "forward returns nothing"
            trace.crash = Crash("", None, "", message, (), "", [], [source])
        alive = {node.index for node in trace.live()}
        trace.cuts = [cut for reader, _, cut in self.cuts if reader.index in alive]
        return trace

    @contextlib.contextmanager
    def _watch_constructors(self) -> Iterator[None]:
        construct = nn.Module.__init__

        def constructed(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            construct(module, *args, **kwargs)
            self.kept.append(module)
            self.constructed[id(module)] = next(own_lines(module), None)

        nn.Module.__init__ = constructed  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__init__ = construct  # type: ignore[method-assign]

    @property
    def path(self) -> str:
        """Of the module that is running."""
        return self.stack[-1].path

    def cut(self, how: str) -> Cut:
        """A loss at the line that is running."""
        return Cut(self.path, own_line(), how)

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
        if id(module) not in self.paths:
            self.paths[id(module)] = f"{self.path}.<{type(module).__name__}>".lstrip(".")
            self.kept.append(module)
        path = self.paths[id(module)]
        if id(module) in self.constructed:
            self.trace.fresh[path] = self.constructed[id(module)]
        if path not in self.trace.calls:
            self.trace.calls[path] = own_line()
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in self.names:
                full = f"{path}.{name}"
                self.names[id(parameter)] = full
                self.parameters[full] = parameter
                self.trace.unregistered[full] = parameter.numel()
        x = next((a for a in args if isinstance(a, Tensor)), None)
        if x is not None and module is not self.model and is_own_layer(module):
            node = self.tag(x)
            with _disable_current_modes():
                x = x.detach().clone()  # the layer may write into it
            x._node = node  # type: ignore[attr-defined]
        self.stack.append(Running(path, module, x, len(self.trace.nodes)))

    def leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        while len(self.stack) > 1:
            running = self.stack.pop()
            if running.module is module:
                break
        else:
            return
        made, path, x = self.trace.nodes[running.start :], running.path, running.x
        kinds = {node.kind for node in made}
        if not made or (len(made) == 1 and kinds <= UNDERSTOOD) or "conv" in kinds:
            return
        source = getattr(x, "_node", None)
        if x is None or not isinstance(source, Node) or not isinstance(out, Tensor):
            return
        if module is self.model or not is_own_layer(module):
            return
        with _disable_current_modes():
            layer = recognise(module, x, out, source)
        if layer is None:
            return
        self.stack.append(running)
        node = self.add(layer, out)
        node.settings["computed at"] = next((n.location for n in made if n.location), None)
        self.stack.pop()
        node.direct = False
        node.names = tuple(f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters())
        node.buffers = tuple(f"{path}.{name}".lstrip(".") for name, _ in module.named_buffers())
        node.learns = source.learns or any(p.requires_grad for p in module.parameters())
        out._node = node  # type: ignore[attr-defined]

    def add(self, node: Node, out: Tensor) -> Node:
        """Give a node its place in the row."""
        nodes, module = self.trace.nodes, self.stack[-1].module
        node.place, node.location = self.path, own_line() if nodes else None
        node.direct = not type(module).__module__.startswith("torch.nn")
        node.shape, node.index, node.owner = tuple(out.shape), len(nodes), self.token
        node.learns = any(parent.learns for parent in node.inputs)
        if self.watch:
            node.value = _value(out)
        nodes.append(node)
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
                self.overwritten.append(self.cut("in place"))

    def tag(self, tensor: Tensor) -> Node | frozenset[str]:
        """The operation behind a tensor, or, of a constant, the names behind it."""
        mark = getattr(tensor, "_node", None)
        if isinstance(mark, Node) and mark.owner is self.token:
            return mark
        if id(tensor) in self.names:
            return frozenset([self.names[id(tensor)]])
        batch = len(self.trace.images)
        unknown = mark is None and id(tensor) not in self.attributes
        if unknown and self.detached and tensor.dim() > 1 and len(tensor) == batch > 1:
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
            kind = "globalpool" if pooled else "outside"
            read = self.add(Node(kind, [read], in_shape=tuple(source.shape)), tensor)
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
        x = self.stack[-1].x
        shape = tuple(x.shape) if isinstance(x, Tensor) else ()
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        own = [
            (frame.f_code.co_filename, number)
            for frame, number in traceback.walk_tb(error.__traceback__)
            if is_candidates_own(frame.f_code.co_filename)
        ]
        written = [place for place in own if "site-packages" not in place[0]] or own
        name, shapes, nodes = self.failed
        if not isinstance(error, (RuntimeError, IndexError, ValueError)):
            name = ""
        place = written[-1] if written else None
        return Crash(self.path, place, type(error).__name__, message, shape, name, shapes, nodes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        tags = [self.tag(tensor) for tensor in tensors]
        given = _statistics(name, args) or args
        if self.saved is not None and torch.is_grad_enabled():
            self._look_for_write(func, args)
        try:
            out = func(*args, **kwargs)
        except Exception:
            shapes = [tuple(tensor.shape) for tensor in tensors]
            self.failed = (name.rstrip("_"), shapes, [tag for tag in tags if isinstance(tag, Node)])
            raise
        if func._schema.is_mutable and tensors:
            written = {self.names.get(id(t), "") for t in tensors[:1]} & self.parameters.keys()
            self.trace.writes |= dict.fromkeys(written, own_line())
        name = name.rstrip("_") or name
        if name in RANDOM:
            torchs = type(self.stack[-1].module).__module__.startswith("torch.nn")
            self.trace.random.append((self.path, name, None if torchs else own_line()))
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not outputs or name in FACTORIES:
            for tensor in outputs:
                tensor._node = frozenset()  # type: ignore[attr-defined]
            return out
        call = Call(name, given, kwargs, tensors, tags, outputs[0])
        mark = self._mark(call)
        for tensor in outputs:
            if id(tensor) not in self.names:
                tensor._node = mark  # type: ignore[attr-defined]
        if call.read:
            self._follow(call, func)
        base = args[0]._base if func._schema.is_mutable and isinstance(args[0], Tensor) else None
        if base is not None and isinstance(mark, Node):  # written through a view
            held = self.tag(base)
            old = [held] if isinstance(held, Node) and held is not mark else []
            same = base.numel() == args[0].numel()
            base._node = mark if same else self.add(Node("pad", [*old, mark]), base)  # type: ignore[attr-defined]
        return out

    def _follow(self, call: Call, func: Any) -> None:
        """Carry along what a tensor's node does not say: losses and swapped axes."""
        name, x, out = call.name, call.read[0][0], call.out
        cut, rounded = getattr(x, "_cut", None), getattr(x, "_rounded", None)
        if name == "detach" and torch.is_grad_enabled() and x.requires_grad:
            cut = self.cut("detach")
            self.detached = (x, cut)
        if name == "_to_copy" and _is_rounded(x, out):
            rounded = self.cut(str(out.dtype).removeprefix("torch."))
        if out is x:
            return
        if name in VIEWS and name != "detach":
            # Autograd detaches what it keeps: a way back from there would be a cycle.
            out._map = map_behind(x)  # type: ignore[attr-defined]
        if rounded is not None and name in VIEWS:
            out._rounded = rounded  # type: ignore[attr-defined]
        if cut is not None and not out.requires_grad:
            out._cut = cut  # type: ignore[attr-defined]
        if out.dim() == x.dim() == 4 and name != "convolution":
            axes = getattr(x, "_axes", (0, 1, 2, 3))
            if name in ("transpose", "permute"):  # the shape of a tensor says how they move
                with _disable_current_modes():
                    moved = func(torch.empty([axis + 1 for axis in axes]), *call.args[1:])
                axes = tuple(side - 1 for side in moved.shape)
            out._axes = axes  # type: ignore[attr-defined]

    def _mark(self, call: Call) -> Node | frozenset[str]:
        """The node of one operation; of one that changes no values, the node that it reads."""
        name, tensors, inputs = call.name, call.tensors, call.inputs
        names = frozenset().union(*(tag for tag in call.tags if isinstance(tag, frozenset)))
        noise = any(hasattr(x, "_noise") for x in tensors) or name in RANDOM
        if noise and not inputs:
            call.out._noise = True  # type: ignore[attr-defined]
        rescales = name in ("mul", "div") and not call.constants and hasattr(tensors[0], "_noisy")
        if (noise or rescales) and len(inputs) == 1 and name in _WITH_NOISE:
            call.out._noisy = True  # type: ignore[attr-defined]
            return inputs[0]  # dropout and the like, which ``random`` tells of
        what = describe(call) if inputs else None
        if what is None:
            return names
        if what.owner is not None:
            return what
        alpha = call.kwargs.get("alpha", 1)
        if name == "add" and alpha != 1 and len(what.inputs) == 2:  # torch.add(x, y, alpha=0.1)
            factor = Node("scale", what.inputs[1:], {"factor": alpha, "operation": "mul"})
            what.inputs = [what.inputs[0], self.add(factor, call.out)]
        return self._record(what, names, call)

    def _record(self, node: Node, names: frozenset[str], call: Call) -> Node:
        self.add(node, call.out)
        folded = [parent for parent in call.inputs if parent.kind == node.kind]
        if folded and folded[0] not in node.inputs and node.kind in ("conv", "linear"):
            names |= {*folded[0].names, *folded[0].buffers}  # a bias was added to a bare layer
            node.place, node.direct = folded[0].place, folded[0].direct
            self.cuts = [(node if r is folded[0] else r, n, cut) for r, n, cut in self.cuts]
        node.names = tuple(sorted(name for name in names if name in self.parameters))
        node.buffers = tuple(sorted(name for name in names if name not in self.parameters))
        node.learns |= any(self.parameters[name].requires_grad for name in node.names)
        if node.kind in ("conv", "linear"):
            self._weights_of(node)
        if node.kind == "norm" and getattr(self.stack[-1].module, "momentum", 0) is None:
            node.settings |= {"momentum": None, "cumulative": True}
        if node.kind == "conv":
            self._padding_of(node)
            self.trace.precision.add(str(call.out.dtype).removeprefix("torch."))
        if not torch.is_grad_enabled():
            node.without_gradient = any(parent.learns for parent in node.inputs)
        for tensor, parent in call.read:
            self.look_for_cut(tensor, parent, node)
            axes = getattr(tensor, "_axes", None)
            if axes and axes[2:] != (2, 3) and node.kind in ("conv", "globalpool", "maxpool"):
                node.settings["axes"] = axes
        return node

    def _padding_of(self, node: Node) -> None:
        """Read how a torch module pads, of which the operations tell in many words."""
        module, x = self.stack[-1].module, self.stack[-1].x
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
            self.trace.unregistered.setdefault(name, weight.numel())


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
