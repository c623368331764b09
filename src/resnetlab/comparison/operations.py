"""Torch's many operations as the few kinds that residual networks are made of.

Layers that an author wrote by hand are recognised by what they do to the input at hand. Courses ask
students to write batch norm, convolutions and pools themselves. Such a module without children is
compared with torch's layer on the tensor that it has just been given: equal outputs, not equal
code, make it that layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetlab.comparison.candidate import Location, line_words

# ruff: noqa: SIM905
VIEWS = frozenset(
    """view _unsafe_view reshape _reshape_alias t transpose permute squeeze unsqueeze expand clone
    alias detach contiguous _to_copy lift_fresh flatten positive view_as movedim""".split()
)
"""They change no value: whoever reads the result reads what they read."""
FACTORIES = frozenset(
    """empty_like zeros_like ones_like full_like rand_like randn_like new_empty new_zeros new_ones
    new_full new_empty_strided""".split()
)
"""They take only the shape of what they read."""
RANDOM = frozenset(
    """bernoulli rand rand_like randn randn_like uniform normal native_dropout randperm
    multinomial""".split()
)
SLICES = frozenset("slice select narrow index index_select split split_with_sizes unbind".split())
ACTIVATIONS = {
    "leaky_relu": "LeakyReLU", "rrelu_with_noise": "RReLU", "gelu": "GELU", "elu": "ELU",
    "silu": "SiLU", "mish": "Mish", "hardswish": "Hardswish", "hardtanh": "Hardtanh",
    "softplus": "Softplus", "tanh": "Tanh", "sigmoid": "Sigmoid", "hardsigmoid": "Hardsigmoid",
    "_prelu_kernel": "PReLU", "celu": "CELU", "selu": "SELU", "abs": "absolute value",
}  # fmt: skip
POOLS = ("globalpool", "avgpool", "maxpool", "mean", "sumpool", "lp")
NORMS = {"native_group_norm": "group norm", "native_layer_norm": "layer norm"}
WORDS = {
    "relu": "ReLU", "norm": "batch norm", "conv": "convolution", "linear": "linear layer",
    "maxpool": "max pool", "globalpool": "global average pooling", "avgpool": "average pooling",
    "scale": "multiplication by a constant or parameter", "shift": "addition of a constant",
    "mul": "multiplication of two branches", "gate": "gate (squeeze and excitation)",
    "add": "further addition", "sub": "subtraction", "pad": "padding", "slice": "slice",
    "extra-addition": "second addition of the shortcut", "cat": "concatenation", "sumpool": "sum",
    "blur": "fixed blur filter", "stack": "stack", "div": "division", "pow": "power",
    "sqrt": "square root", "rsqrt": "inverse square root", "mean": "mean", "sum": "sum",
    "var": "variance", "var_mean": "variance", "exp": "exponential", "log": "logarithm",
    "amax": "maximum", "max": "maximum", "maximum": "maximum of two branches", "softmax": "softmax",
    "im2col": "unfolding into patches", "pixel_shuffle": "pixel shuffle", "lp": "power pooling",
    "linalg_vector_norm": "division by the length of the vector",
    "upsample_bilinear2d": "bilinear resizing", "upsample_nearest2d": "nearest-neighbour resizing",
    "upsample_bicubic2d": "bicubic resizing", "native_channel_shuffle": "channel shuffle",
    "convolution": "convolution", "bmm": "matrix product of two branches", "where": "selection",
    "copy": "padding", "reflection_pad2d": "padding by reflection", "window": "sliding window",
    "replication_pad2d": "padding by replication", "clamp": "clamp", "clamp_max": "clamp",
    "outside": "computation outside of torch", "reordering": "reordering by an index",
    "flip": "mirroring", "roll": "cyclic shift", "round": "rounding", "floor": "rounding down",
    "sign": "sign", "sort": "sorting", "cumsum": "running sum", "masked_fill": "masking",
    "argmax": "choice of the largest", "topk": "choice of the largest", "gather": "choice by index",
    "floor_divide": "division that rounds down", "neg": "change of sign",
    "reciprocal": "reciprocal", "erf": "error function",
}  # fmt: skip


@dataclass(eq=False, repr=False)  # whose inputs would be written out again and again
class Node:
    """One operation: its kind, the operations that it reads, and its place in the network."""

    kind: str
    """a key of ``WORDS``, ``input``, ``act``, or torch's own name of anything else"""
    inputs: list[Node]
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor | None, ...] = ()
    """weights that it reads, for copying: (weight, bias), and of a norm also (mean, variance)"""
    in_shape: tuple[int, ...] = ()
    """of the first tensor that it reads"""
    shape: tuple[int, ...] = ()
    """of its output"""
    place: str = ""
    """path of the innermost module, '' for the network itself"""
    location: Location | None = None
    """of the call in the candidate's own code"""
    direct: bool = False
    """whether the candidate's own code calls the operation, not a module of torch"""
    names: tuple[str, ...] = ()
    """names of the parameters behind the constants that it reads"""
    buffers: tuple[str, ...] = ()
    """names of the buffers behind them"""
    index: int = 0
    owner: Any = None
    """of the trace that it is in, None until it is"""
    learns: bool = False
    """whether a gradient should reach its inputs or its weights"""
    without_gradient: bool = False
    """whether it ran under ``torch.no_grad``"""
    value: tuple[float, float] = (0.0, 0.0)
    """of the first image's output, if watched: a number that tells it from others, and its norm"""

    @property
    def weight(self) -> Tensor | None:
        return self.tensors[0] if self.tensors else None

    @property
    def label(self) -> str:
        """What its author calls it: the module, the weight of a function, or the line."""
        if self.direct and self.names:
            return self.names[0].removesuffix(".weight").removesuffix(".bias")
        if self.direct and self.location:
            return f"{self.place} ({line_words(self.location)})".lstrip()
        return self.place

    @property
    def words(self) -> str:
        """What to call the operation in a sentence, without an article."""
        if self.kind in ("act", "norm", "softmax", "fork"):
            return self.settings.get("name") or self.settings.get("type") or WORDS[self.kind]
        if self.kind == "scale" and isinstance(factor := self.settings.get("factor"), (int, float)):
            verb = "division" if self.settings["operation"] == "div" else "multiplication"
            return f"{verb} by {factor:.3g}"
        return WORDS.get(self.kind) or f"call of torch.{self.kind}"


def behind(ends: list[Node], start: Node | None = None) -> list[Node]:
    """The operations that ``ends`` depend on, in order; none from before ``start``."""
    found: dict[int, Node] = {}
    todo = list(ends)
    while todo:
        node = todo.pop()
        if node.index not in found and (start is None or node.index >= start.index):
            found[node.index] = node
            todo.extend(node.inputs if node is not start else [])
    return [found[index] for index in sorted(found)]


def alike(one: Node, two: Node, tolerance: float = 1e-4) -> bool:
    """Whether two watched operations have given the same for the first image."""
    (a, norm), (b, other) = one.value, two.value
    return abs(a - b) <= tolerance * max(norm, other) and abs(norm - other) <= tolerance * norm


def adds_itself(node: Node) -> bool:
    """``y += y``, where ``y += x`` was meant."""
    return node.kind == "add" and len(node.inputs) > 1 and len(set(map(id, node.inputs))) == 1


def shrinkage(node: Node) -> tuple[int, ...]:
    """By how much an operation divides height and width."""
    if stride := node.settings.get("stride"):
        return tuple(stride)
    before, after = node.in_shape[2:], node.shape[2:]
    return tuple(round(b / a) for b, a in zip(before, after, strict=False) if a) or (1,)


@dataclass
class Call:
    """A call of a torch operation."""

    name: str
    """aten's, without the underscore of one that works in place"""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    """that it reads"""
    tags: list[Node | frozenset[str]]
    """of each the operation behind it, or, of a constant, the names behind it"""
    out: Tensor

    @cached_property
    def read(self) -> list[tuple[Tensor, Node]]:
        """What depends on the image."""
        pairs = zip(self.tensors, self.tags, strict=True)
        return [(tensor, tag) for tensor, tag in pairs if isinstance(tag, Node)]

    @cached_property
    def inputs(self) -> list[Node]:
        return [node for _, node in self.read]

    @cached_property
    def constants(self) -> list[Tensor]:
        pairs = zip(self.tensors, self.tags, strict=True)
        return [tensor for tensor, tag in pairs if not isinstance(tag, Node)]

    @property
    def in_shape(self) -> tuple[int, ...]:
        return tuple(self.tensors[0].shape)

    def node(
        self,
        kind: str,
        settings: dict[str, Any] | None = None,
        tensors: tuple[Tensor | None, ...] = (),
        inputs: list[Node] | None = None,
    ) -> Node:
        """What the call comes to; its place is not known yet."""
        inputs = self.inputs if inputs is None else inputs
        return Node(kind, list(inputs), settings or {}, tensors, self.in_shape)


def describe(call: Call) -> Node | None:
    """A new node for a call, or the node that it reads if it changes no value.

    None if nothing of the input is left (a product with zero).
    """
    name, args, inputs, out = call.name, call.args, call.inputs, call.out
    first, all_values = inputs[0], out.numel() == math.prod(call.in_shape)
    if name in ("index", "index_select") and tuple(out.shape) == call.in_shape:
        return call.node("reordering")
    if name == "expand" and _repeats_channels(call.in_shape, tuple(out.shape)):
        return call.node("repeat", {"filled": "copy"})
    if name in VIEWS or (all_values and (name in SLICES or name == "as_strided")):
        return first
    if name == "as_strided":
        return call.node("window")  # for a hand-written convolution
    if ceiling := _ceiling(name, args, first):
        words = "ReLU6" if ceiling == 6 else f"ReLU with a ceiling of {ceiling:g}"
        return call.node("act", {"name": words}, (), first.inputs if first.kind == "relu" else None)
    if _is_relu(name, args) if len(inputs) == 1 else _is_selected(name, args, inputs):
        if _is_positive(inputs[-1]):
            return inputs[-1]
        return call.node("relu", inputs=[n for n in inputs if n.kind not in ("gt", "ge")])
    if name in ("gt", "ge"):
        return call.node(name, {"number": None if isinstance(args[1], Tensor) else args[1]})
    if name in ACTIVATIONS:
        return call.node("act", {"name": ACTIVATIONS[name]})
    if name in ("_softmax", "_log_softmax"):
        return call.node("softmax", {"name": name.strip("_")})
    if name == "convolution":
        return _convolution(call)
    if "batch_norm" in name or name in NORMS:
        return _norm(call)
    if name in ("add", "sub", "rsub", "mul", "div") and len(inputs) == 1:
        return _with_constant(call)
    if name in ("sum", "mean") and first.kind == "stack" and len(first.shape) == 5:
        return call.node("add", inputs=first.inputs)
    if name in ("addmm", "mm", "bmm") and len(inputs) == 1:
        return _matrix_product(call)
    if name in ("cat", "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "copy"):
        kind = "cat" if name == "cat" and len(inputs) > 1 else "pad"
        value = args[2] if name == "constant_pad_nd" and len(args) > 2 else 0
        pad = args[1] if len(args) > 1 else ()
        return call.node(kind, {"pad": pad, "mode": name, "value": value, "filled": _filled(call)})
    if name == "repeat":
        return call.node(name, {"filled": _filled(call)})
    if name == "im2col":
        return call.node(name, {"arguments": args[1:]})
    if name in SLICES or (name == "upsample_nearest2d" and _takes_every_nth(call.in_shape, out)):
        return call.node("slice")
    if "pool2d" in name:
        return _pool(call)
    return _reduction(call)


def _repeats_channels(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether (n, c, 1, h, w) or (n, 1, c, h, w) is made longer, as repeat_interleave does."""
    maps = len(before) == len(after) == 5 and before[3:] == after[3:] and math.prod(after[3:]) > 1
    return maps and before[1:3] != after[1:3]


def _filled(call: Call) -> str:
    """What channels that are added to a map hold: zeros, a copy of it, or other values."""
    shape, out = call.inputs[0].shape, call.out
    grown = out.shape[1] - shape[1] if len(shape) == out.dim() == 4 else 0
    if out.is_meta or grown <= 0:
        return ""
    if int((out == 0).all(0).all(-1).all(-1).sum()) >= grown:
        return "zeros"
    alone = not call.constants and len(set(map(id, call.inputs))) == 1
    return "copy" if alone and call.name in ("cat", "repeat") else "other"


def _convolution(call: Call) -> Node:
    _, weight, bias, stride, padding, dilation, transposed, _, groups = call.args
    settings = conv_settings(weight, stride, padding, dilation) | {
        "groups": groups, "bias": bias is not None, "transposed": transposed,
        "in": call.in_shape[1] if len(call.in_shape) > 3 else 0,
        "out": call.out.shape[-3] if call.out.dim() > 2 else 0,
    }  # fmt: skip
    return call.node("conv", settings, (weight, bias))


def conv_settings(
    weight: Tensor, stride: Any, padding: Any, dilation: Any = 1, bias: bool = False
) -> dict[str, Any]:
    """What the rules ask of a convolution whose weight is (out, in, height, width)."""
    return {
        "kernel": tuple(weight.shape[2:]), "in": weight.shape[1], "out": weight.shape[0],
        "stride": _pair(stride), "padding": _pair(padding), "dilation": _pair(dilation),
        "groups": 1, "bias": bias, "transposed": False,
    }  # fmt: skip


def _norm(call: Call) -> Node:
    args, shape = call.args, call.in_shape
    if call.name in NORMS:
        tensors = args[1:3] if "group" in call.name else args[2:4]
        return call.node("norm", {"type": NORMS[call.name], "running": False}, tuple(tensors))
    tensors = tuple(args[1 : 5 if len(args) > 6 else 3])
    momentum, eps = [a for a in args[3:] if isinstance(a, float)][:2]
    before = call.inputs[0].shape  # of an instance norm torch folds the images into the channels
    instance = shape[0] == 1 != before[0] and shape[1] == before[0] * before[1]
    training = next((a for a in args[3:] if isinstance(a, bool)), False)
    settings = {
        "type": "instance norm" if instance else "batch norm", "eps": eps, "momentum": momentum,
        "training": training, "affine": tensors[0] is not None,
        "running": len(tensors) > 2 and tensors[2] is not None,
    }  # fmt: skip
    return call.node("norm", settings, tensors)


def _with_constant(call: Call) -> Node | None:
    """A sum or product of the input with a number or a tensor that does not depend on it."""
    name, before = call.name, call.inputs[0]
    number = next((a for a in call.args[:2] if isinstance(a, (int, float))), None)
    tensor = call.constants[0] if call.constants else None
    if name in ("add", "sub", "rsub"):
        if number == 0:
            return before
        bare = before.kind in ("conv", "linear") and not before.settings.get("bias")
        channels = before.settings.get("out")
        if name == "add" and bare and tensor is not None and tensor.numel() == channels:
            settings = before.settings | {"bias": True}  # a bias that is added by hand
            tensors = (before.tensors[0], tensor.flatten())
            return Node(before.kind, before.inputs, settings, tensors, before.in_shape)
        return call.node("shift", {"operation": name}, (tensor,))
    if number == 0:
        return None
    if number == 1:
        return before
    if number and before.kind == "sumpool":
        times = number if name == "div" else 1 / number
        if abs(times / before.settings["area"] - 1) < 1e-4:
            return Node("globalpool", before.inputs, before.settings, (), before.in_shape)
    return call.node("scale", {"operation": name, "factor": number}, (tensor,))


def _matrix_product(call: Call) -> Node:
    bias, left, right = call.args if call.name == "addmm" else (None, *call.args[:2])
    source = call.inputs[0]
    if source.kind == "im2col":  # a convolution as a product of patches, weight on the left
        kernel, dilation, padding, stride = source.settings["arguments"]
        channels = source.in_shape[1]
        fan_in = channels * math.prod(kernel)
        weight = right.t() if right.dim() == 2 and right.shape[0] == fan_in else left
        weight = weight[0] if weight.dim() == 3 else weight
        shape = (weight.shape[0], channels, *kernel)
        if weight.numel() == math.prod(shape):
            weight = weight.reshape(shape)
            settings = conv_settings(weight, stride, padding, dilation)
            return call.node("conv", settings, (weight, None), source.inputs)
    turned = any(left is tensor for tensor in call.constants)  # weight @ x.t()
    weight = left.mT if turned else right
    if weight.dim() == 3 and (weight.shape[0] == 1 or weight.stride(0) == 0):
        weight = weight[0]  # the same for every image
    columns = call.out.shape[-2 if turned else -1]
    settings = {"in": weight.shape[-2], "out": columns, "bias": bias is not None}
    return call.node("linear", settings, (weight, bias))


def _pool(call: Call) -> Node:
    """A pool of torch's; one of a single pixel takes every other, or changes nothing."""
    args, kind = call.args, "maxpool" if "max" in call.name else "avgpool"
    settings = {"kernel": None, "stride": None, "padding": (0, 0), "dilation": (1, 1)}
    if "adaptive" not in call.name:
        kernel, stride, padding = [*map(_pair, args[1:4]), None, None][:3]
        settings |= {"kernel": kernel, "stride": stride or kernel, "padding": padding or (0, 0)}
        if kind == "maxpool" and len(args) > 4:
            settings["dilation"] = _pair(args[4])
        at = 5 if kind == "maxpool" else 4
        settings["ceil_mode"] = len(args) > at and bool(args[at])
        if kernel == (1, 1):
            return call.inputs[0] if settings["stride"] == (1, 1) else call.node("slice", settings)
    if kind == "avgpool" and _is_global(call.in_shape, tuple(call.out.shape), settings["kernel"]):
        kind = "globalpool"
    return call.node(kind, settings)


def _reduction(call: Call) -> Node:
    """Anything else; a mean, a sum or a maximum may be a pool over the whole map."""
    kind, before, out = call.name, call.inputs[0], call.out
    result = call.node(kind)
    if kind in ("mean", "sum"):
        if before.kind == kind:  # rows first, then columns
            result.inputs, result.in_shape = before.inputs, before.inputs[0].shape
        result.settings["mixed"] = not _reduces_maps(kind, *call.args[:2], out=out)
        if _is_global(result.in_shape, tuple(out.shape)):
            result.kind = "globalpool" if kind == "mean" else "sumpool"
            result.settings["area"] = math.prod(result.in_shape) / out.numel()
    elif kind in ("amax", "max") and out.dim() < 4:
        result.kind = "maxpool"
    return result


def _reduces_maps(name: str, x: Tensor, axes: Any = None, *, out: Tensor) -> bool:
    """Whether a row of features for each image has the mean (or sum) of each channel's map.

    Not so behind a reshape that mixes channels and positions. True of everything else.
    """
    image = map_behind(x)
    axes = axes if isinstance(axes, (list, tuple)) else ()
    if image is x and x.dim() == 4 and {axis % 4 for axis in axes} in ({1}, {1, 2}, {1, 3}):
        return False
    if image.dim() != 4 or out.shape[:1] != image.shape[:1] or math.prod(out.shape[2:]) != 1:
        return True
    if image.is_meta:
        return True
    right = (image.mean((2, 3)) if name == "mean" else image.sum((2, 3))).flatten()
    if right.numel() != out.numel():
        return False
    return bool((right - out.flatten()).abs().max() <= 1e-3 * right.abs().max())


def map_behind(x: Tensor) -> Tensor:
    """The tensor of which ``x`` is a view in another shape or order."""
    return getattr(x, "_map", x)


def _is_positive(node: Node) -> bool:
    """Whether a further ReLU changes nothing."""
    return node.kind == "relu" or (node.kind == "maxpool" and _is_positive(node.inputs[0]))


def _takes_every_nth(in_shape: tuple[int, ...], out: Tensor) -> bool:
    sides = zip(in_shape[2:], out.shape[2:], strict=True)
    return all(before >= after and before % after == 0 for before, after in sides)


def _is_relu(name: str, args: tuple[Any, ...]) -> bool:
    """ReLU, also written as a clamp, a threshold or a maximum."""
    if name == "relu":
        return True
    if name == "threshold":
        return args[1:3] == (0, 0)
    clamp = name in ("clamp", "clamp_min")
    if clamp and args[1:3] in ((0,), (0, None)):
        return True
    if not (clamp or name in ("maximum", "max")) or len(args) < 2:
        return False
    return any(isinstance(a, Tensor) and a.numel() and not a.any() for a in args[:2])


def _ceiling(name: str, args: tuple[Any, ...], before: Node) -> float | None:
    """The largest value of a ReLU that has one, however it is written."""
    low, high = [*args[1:3], None, None][:2]
    if name == "clamp_max":
        low, high = None, low
    if name not in ("clamp", "clamp_max", "hardtanh") or isinstance(high, Tensor) or not high:
        return None
    number = isinstance(low, (int, float)) and low == 0
    return high if high > 0 and (number or (low is None and before.kind == "relu")) else None


def _is_selected(name: str, args: tuple[Any, ...], inputs: list[Node]) -> bool:
    """ReLU as ``x * (x > 0)`` or ``torch.where(x > 0, x, 0)``."""
    tests = [node for node in inputs if node.kind in ("gt", "ge") and node.settings["number"] == 0]
    others = [node for node in inputs if node not in tests]
    if not tests or len(others) != 1 or tests[0].inputs != others:
        return False
    zero = name == "where" and len(args) == 3 and not torch.as_tensor(args[2]).any()
    return name == "mul" or zero


def _is_global(before: tuple[int, ...], after: tuple[int, ...], kernel: Any = None) -> bool:
    """Whether an average is over the whole map, however it is written."""
    one = len(before) > 2 and (len(after) == 2 or set(after[2:]) == {1})
    covers = kernel is None or all(k >= n for k, n in zip(kernel, before[2:], strict=False))
    return one and covers and kernel != (2, 2)  # which halves what happens to be a map of two


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[-1]) if value else None


UNDERSTOOD = frozenset("conv norm relu act linear maxpool avgpool globalpool softmax".split())
"""One of these in a module needs no recognition."""
TOLERANCE = 1e-4
Layer = tuple[str, dict[str, Any], tuple[Tensor | None, ...], Tensor]
"""(kind, settings, weights, what it makes of the input)"""


def is_own_layer(module: nn.Module) -> bool:
    """Whether a module is somebody's own layer, which holds no others."""
    torchs = type(module).__module__.startswith("torch.nn")
    return not torchs and next(module.children(), None) is None


@torch.no_grad()
def recognise(module: nn.Module, x: Tensor, y: Tensor, source: Node) -> Node | None:
    """The layer of torch that turns ``x`` into ``y``, if one does."""
    if not (x.is_floating_point() and y.is_floating_point() and x.numel() and y.numel()):
        return None
    x, y = x.detach().double(), y.detach().double()
    for kind, settings, tensors, result in _layers(module, x, y):
        scale = y.abs().max().clamp(min=1e-12)
        if result.shape == y.shape and (result - y).abs().max() <= TOLERANCE * scale:
            # Views made here are none that a gradient passes: ``proof`` looks for their owners.
            own = [t if t is None or isinstance(t, nn.Parameter) else t.detach() for t in tensors]
            return Node(kind, [source], settings | {"by_hand": True}, tuple(own), tuple(x.shape))
    return None


def _layers(module: nn.Module, x: Tensor, y: Tensor) -> Iterator[Layer]:
    """Every layer that has the shapes at hand."""
    held = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    held += [t for t in vars(module).values() if isinstance(t, Tensor) and t.is_floating_point()]
    if x.shape == y.shape and not held:
        yield "relu", {}, (), x.clamp(min=0)
    if x.shape == y.shape and x.dim() in (2, 4):
        yield from _norms(held, x, y)
    if x.dim() == 4 and y.dim() == 4:
        yield from _convolutions(module, x, y)
        if not held:
            yield from _pools(x, y)
    if x.dim() == 4 and not held:
        mean = x.mean((2, 3))
        yield "globalpool", {}, (), mean if y.dim() == 2 else mean[:, :, None, None]
    if x.dim() == 2 and y.dim() == 2:
        yield from _linear(module, x, y)


def _norms(held: list[Tensor], x: Tensor, y: Tensor) -> Iterator[Layer]:
    """Batch norm: a straight line for each channel, in the input or in the normalised input."""
    channels = x.shape[1]
    vectors = [t.detach().double().flatten() for t in held if t.numel() == channels]
    if len(vectors) < 2:
        return
    settings = {"type": "batch norm", "eps": 1e-5, "momentum": None, "affine": len(vectors) > 2}
    for training in (True, False):
        base = F.batch_norm(x, None, None, training=True) if training else x
        scale, shift = _line(base, y)
        # As the normalised input is a straight line of the input, the weights decide.
        if training and not (_is_held(scale, vectors, 1.0) and _is_held(shift, vectors, 0.0)):
            continue
        shape = (1, channels) + (1,) * (x.dim() - 2)
        out = base * scale.view(shape) + shift.view(shape)
        if training or len(vectors) >= 4 or (len(vectors) == 2 and channels > 1):
            own = settings | {"training": training, "running": True}
            yield "norm", own, (scale, shift, None, None), out


def _is_held(values: Tensor, held: list[Tensor], default: float) -> bool:
    vectors = [*held, torch.full_like(values, default)]
    return any(bool((values - vector).abs().max() < 1e-3) for vector in vectors)


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of y over x, for each channel, by least squares."""
    rows = [t.transpose(0, 1).flatten(1) for t in (x, y)]
    means = [row.mean(1) for row in rows]
    x_off, y_off = (row - mean[:, None] for row, mean in zip(rows, means, strict=True))
    scale = (x_off * y_off).sum(1) / (x_off * x_off).sum(1).clamp(min=1e-12)
    return scale, means[1] - scale * means[0]


def _linear(module: nn.Module, x: Tensor, y: Tensor) -> Iterator[Layer]:
    for weight, bias in _weights(module, y.shape[1]):
        for turned in (weight, weight.t()) if weight.dim() == 2 else ():
            if turned.shape == (x.shape[1], y.shape[1]):
                out = x @ turned.double() + (0 if bias is None else bias.double().flatten())
                settings = {"in": x.shape[1], "out": y.shape[1], "bias": bias is not None}
                yield "linear", settings, (turned, bias), out


def _convolutions(module: nn.Module, x: Tensor, y: Tensor) -> Iterator[Layer]:
    for weight, bias in _weights(module, y.shape[1]):
        if weight.dim() != 4 or weight.shape[:2] != (y.shape[1], x.shape[1]):
            continue
        for stride, padding in _windows(x, y, weight.shape[2:], 4, max(weight.shape[2:]) - 1):
            shift = None if bias is None else bias.double().flatten()
            out = F.conv2d(x, weight.double(), shift, stride, padding)
            settings = conv_settings(weight, stride, padding, bias=bias is not None)
            yield "conv", settings, (weight, bias), out


def _weights(module: nn.Module, count: int) -> Iterator[tuple[nn.Parameter, nn.Parameter | None]]:
    """A module's weights of two dimensions and more, each with a bias of ``count`` elements."""
    for weight in module.parameters():
        if weight.dim() >= 2 and weight.numel() > 1:
            bias = next((p for p in module.parameters() if p.numel() == count), None)
            yield weight, None if bias is weight else bias


def _pools(x: Tensor, y: Tensor) -> Iterator[Layer]:
    if x.shape[:2] != y.shape[:2]:
        return
    for kernel in range(2, 8):
        for stride, padding in _windows(x, y, (kernel, kernel), kernel, kernel // 2):
            settings = {
                "kernel": _pair(kernel), "stride": _pair(stride), "ceil_mode": False,
                "padding": _pair(padding), "dilation": (1, 1),
            }  # fmt: skip
            yield "maxpool", settings, (), F.max_pool2d(x, kernel, stride, padding)
            yield "avgpool", settings, (), F.avg_pool2d(x, kernel, stride, padding)


def _windows(
    x: Tensor, y: Tensor, kernel: tuple[int, ...], strides: int, paddings: int
) -> Iterator[tuple[int, int]]:
    """Strides (from 1 on) and paddings (from 0 on) that make maps of the size of y's."""
    for stride, padding in product(range(1, strides + 1), range(paddings + 1)):
        sides = zip(x.shape[2:], kernel, strict=True)
        if tuple((side + 2 * padding - k) // stride + 1 for side, k in sides) == y.shape[2:]:
            yield stride, padding
