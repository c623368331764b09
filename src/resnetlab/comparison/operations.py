"""torch's many operations as the few kinds that residual networks are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

VIEWS = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "t",
        "transpose",
        "permute",
        "squeeze",
        "unsqueeze",
        "expand",
        "clone",
        "alias",
        "detach",
        "contiguous",
        "_to_copy",
        "lift_fresh",
        "flatten",
        "positive",
    ]
)
"""They change no value: whoever reads the result reads what they read."""
FACTORIES = frozenset(
    [
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "rand_like",
        "randn_like",
        "new_empty",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty_strided",
    ]
)
"""They take only the shape of what they read."""
RANDOM = frozenset(
    "bernoulli rand rand_like randn randn_like uniform normal native_dropout".split()  # noqa: SIM905
)
SLICES = frozenset(
    "slice select narrow index index_select split split_with_sizes unbind".split()  # noqa: SIM905
)
ACTIVATIONS = {
    "leaky_relu": "LeakyReLU", "rrelu_with_noise": "RReLU", "gelu": "GELU", "elu": "ELU",
    "silu": "SiLU", "mish": "Mish", "hardswish": "Hardswish", "hardtanh": "ReLU6/Hardtanh",
    "softplus": "Softplus", "tanh": "Tanh", "sigmoid": "sigmoid", "hardsigmoid": "Hardsigmoid",
    "_prelu_kernel": "PReLU", "celu": "CELU", "selu": "SELU",
}  # fmt: skip
NORMS = {"native_group_norm": "group norm", "native_layer_norm": "layer norm"}


@dataclass(eq=False)
class Node:
    """One operation: its kind, the operations that it reads, and its place in the network."""

    kind: str
    """input, conv, norm, relu, act, add, mul, cat, pad, slice, maxpool, globalpool, avgpool,
    mean, sumpool, linear, softmax, stack, scale, shift, or torch's own name of anything else"""
    inputs: list[Node]
    place: str = ""
    """path of the innermost module, '' for the network itself"""
    line: str = ""
    """file and line, if the network's own code calls the function"""
    shape: tuple[int, ...] = ()
    """of its output"""
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor | None, ...] = ()
    """weights that it reads, for copying: (weight, bias), and of a norm also (mean, variance)"""
    names: tuple[str, ...] = ()
    """names of the parameters that it reads"""
    index: int = 0
    owner: Any = None

    @property
    def label(self) -> str:
        """What its author calls it: the module, the weight of a function, or the line."""
        if self.line and self.names:
            return self.names[0].removesuffix(".weight").removesuffix(".bias")
        return f"{self.place} ({self.line})".lstrip() if self.line else self.place


def adds_itself(node: Node) -> bool:
    """``y += y``, where ``y += x`` was meant."""
    return node.kind == "add" and len(node.inputs) > 1 and len(set(map(id, node.inputs))) == 1


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
    constants: frozenset[str],
    out: Tensor,
    in_shape: tuple[int, ...],
) -> Description | Node | frozenset[str]:
    """An operation by its aten name and arguments.

    Returns the node that it reads if it changes no value, and the parameters behind the constants
    if nothing of the input is left (a product with zero).
    """
    if name in VIEWS or (name in SLICES and tuple(out.shape) == in_shape):
        return inputs[0]
    if len(inputs) == 1 and _is_relu(name, args) and _is_positive(inputs[0]):
        return inputs[0]
    settings: dict[str, Any] = {"in_shape": in_shape}
    tensors: tuple[Tensor | None, ...] = ()
    scalar = next((a for a in args[1:2] if isinstance(a, (int, float))), None)
    kind = name
    if name == "convolution":
        weight, bias = args[1], args[2]
        kind, tensors = "conv", (weight, bias)
        settings |= {
            "kernel": tuple(weight.shape[2:]),
            "in": in_shape[1] if len(in_shape) > 3 else 0,
            "out": out.shape[-3] if out.dim() > 2 else 0,
            "stride": tuple(args[3]),
            "padding": tuple(args[4]),
            "dilation": tuple(args[5]),
            "transposed": args[6],
            "groups": args[8],
            "bias": bias is not None,
        }
    elif "batch_norm" in name:
        kind, tensors = "norm", tuple(args[1 : 5 if len(args) > 6 else 3])
        momentum, eps = [a for a in args[3:] if isinstance(a, float)][:2]
        instance = in_shape[0] != inputs[0].shape[0]  # torch folds the images into the channels
        training = next((a for a in args[3:] if isinstance(a, bool)), False)
        settings |= {"type": "instance norm" if instance else "batch norm", "eps": eps}
        settings |= {"momentum": momentum, "training": training, "affine": tensors[0] is not None}
        settings["running"] = len(tensors) > 2 and tensors[2] is not None
    elif name in NORMS:
        kind, tensors = "norm", tuple(args[1:3]) if "group" in name else tuple(args[2:4])
        settings |= {"type": NORMS[name], "running": False}
    elif len(inputs) == 1 and _is_relu(name, args):
        kind = "relu"
    elif name in ACTIVATIONS:
        kind, settings["name"] = "act", ACTIVATIONS[name]
    elif name in ("_softmax", "_log_softmax"):
        kind, settings["name"] = "softmax", name.strip("_")
    elif name in ("add", "sub", "rsub") and len(inputs) == 1:
        if scalar == 0:
            return inputs[0]
        kind = "shift"
    elif name in ("mul", "div") and len(inputs) == 1:
        if scalar == 0:
            return constants
        if scalar == 1:
            return inputs[0]
        if scalar and inputs[0].kind == "sumpool":
            times = scalar if name == "div" else 1 / scalar
            if abs(times / inputs[0].settings["area"] - 1) < 1e-4:
                return Description("globalpool", inputs[0].settings, inputs=inputs[0].inputs)
        kind = "scale"
    elif name in ("sum", "mean") and inputs[0].kind == "stack" and len(inputs[0].shape) == 5:
        return Description("add", settings, inputs=inputs[0].inputs)
    elif name in ("mean", "sum") and inputs[0].kind == name:  # rows first, then columns
        inputs = inputs[0].inputs
        settings["in_shape"] = inputs[0].shape
    elif name in ("addmm", "mm", "bmm") and len(inputs) == 1:
        bias, weight = (args[0], args[-1]) if name == "addmm" else (None, args[-1])
        kind, tensors = "linear", (weight, bias)
        settings |= {"in": weight.shape[0], "out": out.shape[-1], "bias": bias is not None}
    elif name in ("cat", "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "copy"):
        merged = name == "cat" and len(inputs) > 1
        kind, settings["pad"] = "cat" if merged else "pad", args[1] if name != "cat" else None
        settings["mode"] = name
    elif name in SLICES or (name == "upsample_nearest2d" and _takes_every_nth(in_shape, out)):
        kind = "slice"
    elif "pool2d" in name:
        kind = "maxpool" if "max" in name else "avgpool"
        pairs = [_pair(a) for a in args[1:4]]
        if "adaptive" in name:
            settings["kernel"] = None
        else:
            kernel, stride, padding, *_ = [*pairs, None, None]
            settings |= {"kernel": kernel, "stride": stride or kernel, "padding": padding}
            settings["padding"] = padding or (0, 0)
            kind = "slice" if kernel == (1, 1) else kind  # takes every other pixel
    elif name in ("amax", "max") and out.dim() < 4:
        kind = "maxpool"
    if kind in ("avgpool", "mean") and _is_global(settings, tuple(out.shape)):
        kind = "globalpool"
    if kind == "sum" and _is_global(settings, tuple(out.shape)):
        kind = "sumpool"
        settings["area"] = math.prod(settings["in_shape"]) / out.numel()
    return Description(kind, settings, tensors, inputs)


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
    return (clamp or name in ("maximum", "max")) and isinstance(args[1], Tensor)


def _is_global(settings: dict[str, Any], shape: tuple[int, ...]) -> bool:
    """Whether an average is over the whole map, however it is written."""
    before, kernel = settings["in_shape"], settings.get("kernel")
    one = len(before) > 2 and (len(shape) == 2 or set(shape[2:]) == {1})
    return one and (kernel is None or (kernel[0] >= before[2] and kernel[1] >= before[3]))


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[-1]) if value else None
