"""Layers that an author wrote by hand, recognised by what they do to the input at hand.

Courses ask students to write batch norm, convolutions and pools themselves. Such a module without
children is compared with torch's layer on the tensor that it has just been given: equal outputs,
not equal code, make it that layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetlab.comparison.operations import Description, Node, behind, conv_settings

UNDERSTOOD = frozenset("conv norm relu act linear maxpool avgpool globalpool softmax".split())  # noqa: SIM905
"""One of these in a module needs no recognition."""
TOLERANCE = 1e-4


def is_candidate(module: nn.Module) -> bool:
    """Whether a module is somebody's own layer, which holds no others."""
    return not type(module).__module__.startswith("torch.nn") and not any(
        True for _ in module.children()
    )


@torch.no_grad()
def recognise(module: nn.Module, x: Tensor, y: Tensor, source: Node) -> Description | None:
    """The layer of torch that turns ``x`` into ``y``, if one does."""
    if not (x.is_floating_point() and y.is_floating_point() and x.numel() and y.numel()):
        return None
    x, y = x.detach().double(), y.detach().double()
    for kind, settings, tensors, result in _layers(module, x, y):
        scale = y.abs().max().clamp(min=1e-12)
        if result.shape == y.shape and (result - y).abs().max() <= TOLERANCE * scale:
            settings = {"in_shape": tuple(x.shape), "by_hand": True} | settings
            # Views made here are none that a gradient passes: ``proof`` looks for their owners.
            own = [t if t is None or isinstance(t, nn.Parameter) else t.detach() for t in tensors]
            return Description(kind, settings, tuple(own), [source])
    return None


Layer = tuple[str, dict[str, Any], tuple[Tensor | None, ...], Tensor]


def _layers(module: nn.Module, x: Tensor, y: Tensor) -> Iterator[Layer]:
    """Every layer that has the shapes at hand: kind, settings, weights, what it makes of ``x``."""
    held = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    held += [t for t in vars(module).values() if isinstance(t, Tensor) and t.is_floating_point()]
    weights = [p for p in module.parameters() if p.dim() >= 2 and p.numel() > 1]
    if x.shape == y.shape and not held:
        yield "relu", {}, (), x.clamp(min=0)
    if x.shape == y.shape and x.dim() in (2, 4):
        yield from _norms(held, x, y)
    if x.dim() == 4 and y.dim() == 4:
        yield from _convolutions(module, weights, x, y)
        if not held:
            yield from _pools(x, y)
    if x.dim() == 4 and not held:
        mean = x.mean((2, 3))
        yield "globalpool", {}, (), mean if y.dim() == 2 else mean[:, :, None, None]
    if x.dim() == 2 and y.dim() == 2:
        for weight in weights:
            for turned in (weight, weight.t()):
                if turned.dim() == 2 and turned.shape == (x.shape[1], y.shape[1]):
                    bias = next((p for p in module.parameters() if p.numel() == y.shape[1]), None)
                    bias = None if bias is weight else bias
                    out = x @ turned.double() + (0 if bias is None else bias.double().flatten())
                    settings = {"in": x.shape[1], "out": y.shape[1], "bias": bias is not None}
                    yield "linear", settings, (turned, bias), out


def _norms(held: list[Tensor], x: Tensor, y: Tensor) -> Iterator[Layer]:
    """Batch norm: a straight line for each channel, in the input or in the normalised input."""
    channels = x.shape[1]
    vectors = sum(tensor.numel() == channels for tensor in held)
    if vectors < 2:
        return
    settings = {"type": "batch norm", "eps": 1e-5, "momentum": None, "affine": vectors > 2}
    flat = [tensor.detach().double().flatten() for tensor in held if tensor.numel() == channels]
    for training in (True, False):
        base = F.batch_norm(x, None, None, training=True) if training else x
        scale, shift = _line(base, y)
        if training and not (
            _among(scale, [*flat, torch.ones_like(scale)])
            and _among(shift, [*flat, torch.zeros_like(shift)])
        ):
            continue  # the normalised input is a straight line of the input: the weights decide
        shape = (1, channels) + (1,) * (x.dim() - 2)
        out = base * scale.view(shape) + shift.view(shape)
        if training or vectors >= 4 or (vectors == 2 and channels > 1):
            yield (
                "norm",
                settings | {"training": training, "running": True},
                (scale, shift, None, None),
                out,
            )


def _among(values: Tensor, held: list[Tensor]) -> bool:
    return any(bool((values - tensor).abs().max() < 1e-3) for tensor in held)


_STATISTICS = frozenset("mean sum var var_mean sub add shift scale pow mul sqrt rsqrt div".split())  # noqa: SIM905
"""Of what the normalisation in a function is made."""


_POWER_POOL = ["pow", "avgpool", "fork", "scale", "pow"]
_POWER_POOL_GLOBAL = ["pow", "globalpool", "fork", "scale", "pow"]
"""What nn.LPPool2d comes to."""


def fold(row: list[Any]) -> list[Any]:
    """A row in which layers with their padding, power pools and norms are one operation each.

    In training they are a fork (statistics and values), then a scale and a shift; in evaluation
    three or more scales and shifts with a value for each channel.
    """
    row = [_with_padding(row, i) for i in range(len(row)) if not _is_padding(row, i)]
    for i, (item, follower) in enumerate(pairwise(row)):  # the maximum of ReLUs is the ReLU of it
        if [getattr(x, "kind", "") for x in (item, follower)] == ["maxpool", "relu"]:
            row[i : i + 2] = follower, item
    folded: list[Any] = []
    i = 0
    while i < len(row):
        powers = row[i : i + len(_POWER_POOL)]
        if [getattr(item, "kind", "") for item in powers] in (_POWER_POOL, _POWER_POOL_GLOBAL):
            own = {"settings": powers[1].settings, "inputs": row[i].inputs, "kind": "lp"}
            folded.append(replace(powers[-1], **own))
            i += len(powers)
            continue
        run = [row[i]] if _is_statistics(row[i]) else []
        while i + len(run) < len(row) and _is_per_channel(row[i + len(run)]):
            run.append(row[i + len(run)])
        training = bool(run) and run[0].kind == "fork"
        if training or len(run) >= 3:
            folded.append(_folded(run[:3] if training else run[:4], training))
            i += min(len(run), 3 if training else 4)
        else:
            folded.append(row[i])
            i += 1
    return folded


def _is_statistics(item: Any) -> bool:
    if not isinstance(item, Node) or item.kind != "fork" or len(item.shape) != 4:
        return False
    inside = item.settings["inside"]
    vectors = [n for n in inside if n.kind in ("mean", "var", "var_mean")]
    whole = any(math.prod(n.shape) == item.shape[1] for n in vectors)
    return whole and {n.kind for n in inside} <= _STATISTICS


def _is_per_channel(item: Any) -> bool:
    if not isinstance(item, Node) or item.kind not in ("scale", "shift") or len(item.shape) != 4:
        return False
    vector = item.tensors[0] if item.tensors else None
    return vector is not None and vector.numel() == item.shape[1]


def _folded(run: list[Node], training: bool) -> Node:
    """One batch norm for its operations, with the scale and the shift that they come to."""
    first = run[0]
    scale: Tensor | None = None
    shift: Tensor | None = None
    for node in run[training:]:
        vector = node.tensors[0]
        assert vector is not None
        if training:  # as they are, for their gradients
            scale, shift = (vector, shift) if node.kind == "scale" else (scale, vector)
            continue
        vector = vector.detach().flatten()
        scale = torch.ones_like(vector) if scale is None else scale
        shift = torch.zeros_like(vector) if shift is None else shift
        if node.kind == "shift":
            shift = shift - vector if node.settings["operation"] == "sub" else shift + vector
        else:
            factor = 1 / vector if node.settings["operation"] == "div" else vector
            scale, shift = scale * factor, shift * factor
    settings = {"type": "batch norm", "eps": 1e-5, "momentum": None, "by_hand": True} | {
        "affine": scale is not None, "training": training, "running": True,
        "in_shape": first.shape,
    }  # fmt: skip
    return Node(
        "norm",
        first.inputs,
        first.place,
        first.location,
        first.direct,
        run[-1].shape,
        settings,
        (scale, shift, None, None),
        tuple(sorted({name for node in run for name in node.names})),
        tuple(sorted({name for node in run for name in node.buffers})),
        index=run[-1].index,
        value=run[-1].value,
    )


FEW_PATHS = 3
"""From so many equal paths on a block is a ResNeXt's, written without groups."""


def joined_paths(
    fork: Node, inside: list[Node], merge: Node
) -> tuple[list[Node], list[Node] | None] | None:
    """The branch and the shortcut of a block whose branch is many equal paths that are added.

    The paths become one of grouped convolutions, as in ResNeXt (arXiv:1611.05431, figure 3); the
    shortcut is None if the sum is of the paths alone. None if there are no such paths.
    """
    own = {node.index for node in inside}
    leaves, sums, todo = list[Node](), 0, [merge]
    while todo:
        node = todo.pop()
        if node.kind == merge.kind == "add" and (node is merge or node.index in own):
            sums += 1
            todo += node.inputs[::-1]
        else:
            leaves.append(node)
    if merge.kind == "cat":
        leaves, sums = list(merge.inputs), 1
    paths = [[n for n in behind([leaf], fork) if n is not fork] for leaf in leaves]
    makes = [tuple((n.kind, n.settings.get("kernel"), n.shape) for n in path) for path in paths]
    make = max(makes, key=makes.count)
    equal = [path for path, other in zip(paths, makes, strict=True) if other == make]
    others = [path for path, other in zip(paths, makes, strict=True) if other != make]
    convs = [i for i, (kind, *_) in enumerate(make) if kind == "conv"]
    whole = sum(map(len, paths)) + sums == len(inside) + 1
    if len(equal) < FEW_PATHS or len(others) > (merge.kind == "add") or not convs or not whole:
        return None
    ends = convs[0], convs[-1] if merge.kind == "add" else len(make)
    joined = [_joined(row, i, *ends) for i, row in enumerate(zip(*equal, strict=True))]
    joined[convs[0]].settings["sums"] = sums - len(others)
    return joined, others[0] if others else None


def _joined(nodes: tuple[Node, ...], i: int, first: int, last: int) -> Node:
    """The same operation of every path as one; the first and the last convolution are whole."""
    node, count = nodes[0], len(nodes)
    settings = dict(node.settings)
    if node.kind == "conv":
        settings["paths"] = count
        settings["groups"] *= count if first < i < last else 1
        settings["out"] *= count if i < last else 1
        settings["in"] *= count if i > first else 1
    names = tuple(name for other in nodes for name in other.names)
    return replace(node, settings=settings, tensors=(), names=names, index=nodes[-1].index)


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of y over x, for each channel, by least squares."""
    rows = [t.transpose(0, 1).flatten(1) for t in (x, y)]
    means = [row.mean(1) for row in rows]
    x_off, y_off = (row - mean[:, None] for row, mean in zip(rows, means, strict=True))
    scale = (x_off * y_off).sum(1) / (x_off * x_off).sum(1).clamp(min=1e-12)
    return scale, means[1] - scale * means[0]


def _convolutions(
    module: nn.Module, weights: list[nn.Parameter], x: Tensor, y: Tensor
) -> Iterator[Layer]:
    for weight in weights:
        if weight.dim() != 4 or weight.shape[:2] != (y.shape[1], x.shape[1]):
            continue
        bias = next((p for p in module.parameters() if p.numel() == len(weight) != 1), None)
        bias = None if bias is weight else bias
        for stride in range(1, 5):
            for padding in range(max(weight.shape[2:])):
                sizes = [(x.shape[i] + 2 * padding - weight.shape[i]) // stride + 1 for i in (2, 3)]
                if sizes != list(y.shape[2:]):
                    continue
                shift = None if bias is None else bias.double().flatten()
                out = F.conv2d(x, weight.double(), shift, stride, padding)
                settings = conv_settings(
                    weight, (stride, stride), (padding, padding), bias=bias is not None
                )
                yield "conv", settings, (weight, bias), out


def _pools(x: Tensor, y: Tensor) -> Iterator[Layer]:
    if x.shape[:2] != y.shape[:2]:
        return
    for kernel in range(2, 8):
        for stride in range(1, kernel + 1):
            for padding in range(kernel // 2 + 1):
                if (x.shape[2] + 2 * padding - kernel) // stride + 1 != y.shape[2]:
                    continue
                settings = {
                    "kernel": (kernel, kernel), "stride": (stride, stride), "ceil_mode": False,
                    "padding": (padding, padding), "dilation": (1, 1),
                }  # fmt: skip
                yield "maxpool", settings, (), F.max_pool2d(x, kernel, stride, padding)
                yield "avgpool", settings, (), F.avg_pool2d(x, kernel, stride, padding)


LOWEST = -1e4
"""What is below stands for minus infinity."""
_PAD_WORDS = {"reflection": "reflect", "replication": "replicate", "constant": "constant"}


def _is_padding(row: list[Any], i: int) -> bool:
    """A border for the convolution or the max pool that follows, of a pool one that never wins."""
    node, follower = (
        item if isinstance(item, Node) else None for item in [*row[i : i + 2], None][:2]
    )
    if node is None or follower is None or node.kind != "pad":
        return False
    pad = node.settings.get("pad")
    if follower.kind not in ("conv", "maxpool", "blur") or not isinstance(pad, (list, tuple)):
        return False
    constant, value = node.settings["mode"] == "constant_pad_nd", node.settings["value"]
    unseen = constant and (not value or value <= LOWEST)  # zeros: behind a ReLU
    return (unseen or follower.kind != "maxpool") and len(pad) == 4 and min(pad) >= 0


def _with_padding(row: list[Any], i: int) -> Any:
    """A layer with the padding that stands before it as its own."""
    item, before = row[i], row[i - 1]
    if i and _is_padding(row, i - 1):
        left, right, top, bottom = before.settings["pad"]
        y, x = item.settings.setdefault("own padding", item.settings.get("padding", (0, 0)))
        sides = (x + left, x + right, y + top, y + bottom)
        even = (left, top) == (right, bottom)
        item.settings["padding"] = (y + top, x + left) if even else sides
        item.settings["padded at"] = before.location if before.direct else None
        zeros = before.settings["mode"] == "constant_pad_nd" and not before.settings["value"]
        if not zeros and item.kind != "maxpool":
            item.settings["padding mode"] = _PAD_WORDS[before.settings["mode"].partition("_")[0]]
    return item
