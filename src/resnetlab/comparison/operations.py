"""Torch's many operations as the few kinds that residual networks are made of."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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
    "neg": "change of sign", "reciprocal": "reciprocal", "erf": "error function",
}  # fmt: skip


@dataclass(eq=False, repr=False)  # whose inputs would be written out again and again
class Node:
    """One operation: its kind, the operations that it reads, and its place in the network."""

    kind: str
    """a key of ``WORDS``, ``input``, ``act``, or torch's own name of anything else"""
    inputs: list[Node]
    place: str = ""
    """path of the innermost module, '' for the network itself"""
    location: tuple[str, int] | None = None
    """(file, line) of the call in the candidate's own code"""
    direct: bool = False
    """whether the candidate's own code calls the operation, not a module of torch"""
    shape: tuple[int, ...] = ()
    """of its output"""
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor | None, ...] = ()
    """weights that it reads, for copying: (weight, bias), and of a norm also (mean, variance)"""
    names: tuple[str, ...] = ()
    """names of the parameters behind the constants that it reads"""
    buffers: tuple[str, ...] = ()
    """names of the buffers behind them"""
    index: int = 0
    owner: Any = None
    learns: bool = False
    """whether a gradient should reach its inputs or its weights"""
    without_gradient: bool = False
    """whether it ran under ``torch.no_grad``"""
    value: tuple[float, float] = (0.0, 0.0)
    """of the first image's output, if watched: a number that tells it from others, and its norm"""

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


def line_words(location: tuple[str, int]) -> str:
    return f"{os.path.basename(location[0])}, line {location[1]}"


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
    before, after = node.settings.get("in_shape", ())[2:], node.shape[2:]
    return tuple(round(b / a) for b, a in zip(before, after, strict=False) if a) or (1,)


@dataclass(frozen=True)
class Cut:
    """Where something is lost on the way, and how.

    A gradient by detach, no_grad, in place (a write) or outside (of torch); digits by a cast, which
    the number type names.
    """

    place: str
    location: tuple[str, int] | None
    how: str


@dataclass
class Crash:
    """Where a forward pass ended: place, what came in, the operation, torch's message."""

    place: str
    location: tuple[str, int] | None
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
class Description:
    """What ``describe`` says of an operation; fields as in ``Node``."""

    kind: str
    settings: dict[str, Any]
    tensors: tuple[Tensor | None, ...] = ()
    inputs: list[Node] = field(default_factory=list)


def describe(
    name: str,
    args: tuple[Any, ...],
    inputs: list[Node],
    constants: list[Tensor],
    out: Tensor,
    in_shape: tuple[int, ...],
) -> Description | Node | None:
    """An operation by its aten name and arguments; ``constants``: tensors with no node behind them.

    Returns the node that it reads if it changes no value, and None if nothing of the input is left
    (a product with zero).
    """
    first = inputs[0]
    if name in ("index", "index_select") and tuple(out.shape) == in_shape:
        return Description("reordering", {"in_shape": in_shape}, (), inputs)
    if name == "expand" and _repeats_channels(in_shape, tuple(out.shape)):
        return Description("repeat", {"in_shape": in_shape, "filled": "copy"}, (), inputs)
    if name in VIEWS or (name in SLICES and out.numel() == math.prod(in_shape)):
        return first
    if name == "as_strided":  # a view of all values, or windows for a hand-written convolution
        same = out.numel() == math.prod(in_shape)
        return first if same else Description("window", {"in_shape": in_shape}, (), inputs)
    if ceiling := _ceiling(name, args, first):
        words = "ReLU6" if ceiling == 6 else f"ReLU with a ceiling of {ceiling:g}"
        inputs = first.inputs if first.kind == "relu" else inputs
        return Description("act", {"in_shape": in_shape, "name": words}, (), inputs)
    relu = _is_relu(name, args) if len(inputs) == 1 else _is_selected(name, args, inputs)
    if relu and _is_positive(inputs[-1]):
        return inputs[-1]
    settings: dict[str, Any] = {"in_shape": in_shape}
    result = Description(name, settings, (), inputs)
    if name == "convolution":
        _convolution(result, args, out, in_shape)
    elif "batch_norm" in name or name in NORMS:
        _norm(result, name, args, in_shape)
    elif relu:
        result.kind, result.inputs = "relu", [n for n in inputs if n.kind not in ("gt", "ge")]
    elif name in ("gt", "ge"):
        settings["number"] = args[1] if not isinstance(args[1], Tensor) else None
    elif name in ACTIVATIONS:
        result.kind, settings["name"] = "act", ACTIVATIONS[name]
    elif name in ("_softmax", "_log_softmax"):
        result.kind, settings["name"] = "softmax", name.strip("_")
    elif name in ("add", "sub", "rsub", "mul", "div") and len(inputs) == 1:
        return _with_constant(result, name, args, constants, out)
    elif name in ("sum", "mean") and first.kind == "stack" and len(first.shape) == 5:
        return Description("add", settings, (), first.inputs)
    elif name in ("addmm", "mm", "bmm") and len(inputs) == 1:
        _matrix_product(result, name, args, constants, out)
    elif name in ("cat", "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "copy"):
        merged = name == "cat" and len(inputs) > 1
        result.kind, settings["pad"] = "cat" if merged else "pad", args[1:2] and args[1]
        settings["mode"] = name
        settings["value"] = args[2] if name == "constant_pad_nd" and len(args) > 2 else 0
        settings["filled"] = _filled(name, inputs, constants, out)
    elif name == "repeat":
        settings["arguments"], settings["filled"] = args[1:], _filled(name, inputs, constants, out)
    elif name == "im2col":
        settings["arguments"] = args[1:]
    elif name in SLICES or (name == "upsample_nearest2d" and _takes_every_nth(in_shape, out)):
        result.kind = "slice"
    else:
        return _reduction(result, name, args, out)
    return result


def _repeats_channels(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether (n, c, 1, h, w) or (n, 1, c, h, w) is made longer, as repeat_interleave does."""
    maps = len(before) == len(after) == 5 and before[3:] == after[3:] and math.prod(after[3:]) > 1
    return maps and before[1:3] != after[1:3]


def _filled(name: str, inputs: list[Node], constants: list[Tensor], out: Tensor) -> str:
    """What channels that are added to a map hold: zeros, a copy of it, or other values."""
    shape = inputs[0].shape
    grown = out.shape[1] - shape[1] if len(shape) == out.dim() == 4 else 0
    if out.is_meta or grown <= 0:
        return ""
    if int((out == 0).all(0).all(-1).all(-1).sum()) >= grown:
        return "zeros"
    same = name in ("cat", "repeat") and not constants and len(set(map(id, inputs))) == 1
    return "copy" if same else "other"


def _convolution(
    result: Description, args: tuple[Any, ...], out: Tensor, in_shape: tuple[int, ...]
) -> None:
    weight, bias = args[1], args[2]
    result.kind, result.tensors = "conv", (weight, bias)
    others = {"groups": args[8], "bias": bias is not None, "transposed": args[6]}
    others["in"] = in_shape[1] if len(in_shape) > 3 else 0
    others["out"] = out.shape[-3] if out.dim() > 2 else 0
    result.settings |= conv_settings(weight, *args[3:6], **others)


def conv_settings(
    weight: Tensor, stride: Any, padding: Any, dilation: Any = (1, 1), **others: Any
) -> dict[str, Any]:
    """What the rules ask of a convolution whose weight is (out, in, height, width)."""
    return {
        "kernel": tuple(weight.shape[2:]), "in": weight.shape[1], "out": weight.shape[0],
        "stride": _pair(stride), "padding": _pair(padding), "dilation": _pair(dilation),
        "groups": 1, "bias": False, "transposed": False,
    } | others  # fmt: skip


def _norm(result: Description, name: str, args: tuple[Any, ...], in_shape: tuple[int, ...]) -> None:
    result.kind = "norm"
    if name in NORMS:
        result.tensors = tuple(args[1:3] if "group" in name else args[2:4])
        result.settings |= {"type": NORMS[name], "running": False}
        return
    result.tensors = tuple(args[1 : 5 if len(args) > 6 else 3])
    momentum, eps = [a for a in args[3:] if isinstance(a, float)][:2]
    before = result.inputs[0].shape  # of an instance norm torch folds the images into the channels
    instance = in_shape[0] == 1 != before[0] and in_shape[1] == before[0] * before[1]
    training = next((a for a in args[3:] if isinstance(a, bool)), False)
    result.settings |= {
        "type": "instance norm" if instance else "batch norm",
        "eps": eps,
        "momentum": momentum,
        "training": training,
        "affine": result.tensors[0] is not None,
        "running": len(result.tensors) > 2 and result.tensors[2] is not None,
    }


def _with_constant(
    result: Description, name: str, args: tuple[Any, ...], constants: list[Tensor], out: Tensor
) -> Description | Node | None:
    """A sum or product of the input with a number or a tensor that does not depend on it."""
    before = result.inputs[0]
    result.settings["operation"] = name
    number = next((a for a in args[:2] if isinstance(a, (int, float))), None)
    tensor = constants[0] if constants else None
    if name in ("add", "sub", "rsub"):
        if number == 0:
            return before
        bare = before.kind in ("conv", "linear") and not before.settings.get("bias")
        channels = before.settings.get("out")
        if name == "add" and bare and tensor is not None and tensor.numel() == channels:
            settings = before.settings | {"bias": True}  # a bias that is added by hand
            return Description(
                before.kind, settings, (before.tensors[0], tensor.flatten()), before.inputs
            )
        result.kind, result.tensors = "shift", (tensor,)
        return result
    if number == 0:
        return None
    if number == 1:
        return before
    result.kind, result.tensors = "scale", (tensor,)
    result.settings["factor"] = number
    if number and before.kind == "sumpool":
        times = number if name == "div" else 1 / number
        if abs(times / before.settings["area"] - 1) < 1e-4:
            return Description("globalpool", before.settings, (), before.inputs)
    return result


def _matrix_product(
    result: Description, name: str, args: tuple[Any, ...], constants: list[Tensor], out: Tensor
) -> None:
    bias, left, right = args if name == "addmm" else (None, *args[:2])
    source = result.inputs[0]
    if source.kind == "im2col":  # a convolution as a product of patches, weight on the left
        kernel, dilation, padding, stride = source.settings["arguments"]
        channels = source.settings["in_shape"][1]
        fan_in = channels * math.prod(kernel)
        weight = right.t() if right.dim() == 2 and right.shape[0] == fan_in else left
        weight = weight[0] if weight.dim() == 3 else weight
        shape = (weight.shape[0], channels, *kernel)
        if weight.numel() == math.prod(shape):
            weight = weight.reshape(shape)
            result.kind, result.tensors, result.inputs = "conv", (weight, None), source.inputs
            result.settings |= conv_settings(weight, stride, padding, dilation)
            return
    turned = any(left is tensor for tensor in constants)  # weight @ x.t()
    weight = left.mT if turned else right
    if weight.dim() == 3 and (weight.shape[0] == 1 or weight.stride(0) == 0):
        weight = weight[0]  # the same for every image
    result.kind, result.tensors = "linear", (weight, bias)
    columns = out.shape[-2 if turned else -1]
    result.settings |= {"in": weight.shape[-2], "out": columns, "bias": bias is not None}


def _reduction(
    result: Description, name: str, args: tuple[Any, ...], out: Tensor
) -> Description | Node:
    """Pooling in any of its forms."""
    settings, before = result.settings, result.inputs[0]
    if name in ("mean", "sum") and before.kind == name:  # rows first, then columns
        result.inputs = before.inputs
        settings["in_shape"] = before.inputs[0].shape
    if name in ("mean", "sum"):
        settings["mixed"] = not _reduces_maps(name, *args[:2], out=out)
    if "pool2d" in name:
        result.kind = "maxpool" if "max" in name else "avgpool"
        settings |= {"kernel": None, "stride": None, "padding": (0, 0), "dilation": (1, 1)}
        if "adaptive" not in name:
            kernel, stride, padding = [*map(_pair, args[1:4]), None, None][:3]
            settings |= {"kernel": kernel, "stride": stride or kernel}
            settings["padding"] = padding or (0, 0)
            if result.kind == "maxpool":
                settings["dilation"] = _pair(args[4]) if len(args) > 4 else (1, 1)
            at = 5 if result.kind == "maxpool" else 4
            settings["ceil_mode"] = bool(args[at]) if len(args) > at else False
            if kernel == (1, 1):
                if settings["stride"] == (1, 1):
                    return before
                result.kind = "slice"  # takes every other pixel
    elif name in ("amax", "max") and out.dim() < 4:
        result.kind = "maxpool"
    one = _is_global(settings, tuple(out.shape))
    if result.kind in ("avgpool", "mean") and one:
        result.kind = "globalpool"
    if result.kind == "sum" and one:
        result.kind = "sumpool"
        settings["area"] = math.prod(settings["in_shape"]) / out.numel()
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


def _is_global(settings: dict[str, Any], shape: tuple[int, ...]) -> bool:
    """Whether an average is over the whole map, however it is written."""
    before, kernel = settings["in_shape"], settings.get("kernel")
    one = len(before) > 2 and (len(shape) == 2 or set(shape[2:]) == {1})
    covers = kernel is None or (kernel[0] >= before[2] and kernel[1] >= before[3])
    return one and covers and kernel != (2, 2)  # which halves what happens to be a map of two


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[-1]) if value else None
