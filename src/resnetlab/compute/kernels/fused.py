"""Batch norm, addition and ReLU as one operation of a training step on the CPU.

Between its convolutions a residual network is bound by memory: eager PyTorch passes over each
activation once or twice for each of these operations, ``fused.cpp`` twice for all of them, forward
and backward.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resnetlab.compute.compiled import address, compiled, compute_in_training
from resnetlab.models.fast import SingleBlock, Transition
from resnetlab.models.resnet import BasicBlock, Bottleneck, ResNet
from resnetlab.models.shortcuts import ShortcutA

_LANES = 64
"""Values that the compiled code handles at a time."""

Pair = tuple[Tensor, Tensor]
"""One activation twice: for the next block's branch and for its shortcut. The gradients of the two
meet in ``norm_backward``, which adds them as it reads them, not in a pass of their own."""


@functools.cache
def _library() -> ctypes.CDLL:
    library = compiled("fused")
    pointer, size, real, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
    library.norm_forward.argtypes = 8 * [pointer] + [size, size, real, real, flag, flag]
    library.norm_backward.argtypes = 9 * [pointer] + [size, size, flag, flag]
    return library


class _NormReLU(torch.autograd.Function):
    """relu(norm(x) + skip), as a ``Pair``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        skip: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: Any,
        relu: bool,
    ) -> Pair:
        ctx.set_materialize_grads(False)
        out = torch.empty_like(x)
        channels = x.size(1)
        statistics = torch.empty(4, channels)
        tensors = (x, skip, out, weight, bias, norm.running_mean, norm.running_var, statistics)
        _library().norm_forward(
            *map(address, tensors),
            x.numel() // channels,
            channels,
            norm.eps,
            norm.momentum,
            relu,
            x.dtype == torch.bfloat16,
        )
        ctx.save_for_backward(x, out if relu and skip is not None else None, statistics)
        ctx.relu, ctx.skip = relu, skip is not None
        return out, out.detach()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        d1, d2 = gradients
        if d1 is None and d2 is None:
            return (None,) * 6
        x, out, statistics = ctx.saved_tensors
        d1, d2 = (
            d.contiguous(memory_format=torch.channels_last) if d is not None else None
            for d in ((d2, None) if d1 is None else (d1, d2))
        )
        channels = x.size(1)
        dx, dskip = torch.empty_like(x), torch.empty_like(x) if ctx.skip else None
        dweight, dbias = torch.empty(2, channels)
        tensors = (d1, d2, x, out, dx, dskip, dweight, dbias, statistics)
        _library().norm_backward(
            *map(address, tensors),
            x.numel() // channels,
            channels,
            ctx.relu,
            x.dtype == torch.bfloat16,
        )
        return dx, dskip, dweight, dbias, None, None


def norm_relu(
    norm: nn.BatchNorm2d, x: Tensor, skip: Tensor | None = None, *, relu: bool = True
) -> Pair:
    """relu(norm(x) + skip), all (n, c, h, w); fused in training where the layout allows."""
    channels = x.size(1)
    fits = (
        norm.training
        and x.dtype in (torch.float32, torch.bfloat16)
        and (channels % _LANES == 0 or _LANES % channels == 0)
        and x.numel() % _LANES == 0
        and x.numel() > channels
        and all(
            t.is_contiguous(memory_format=torch.channels_last) and t.dtype == x.dtype
            for t in (x, skip)
            if t is not None
        )
    )
    if not fits:
        x = norm(x)
        x = x if skip is None else x + skip
        x = x.relu() if relu else x
        return x, x
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    return _NormReLU.apply(x, skip, norm.weight, norm.bias, norm, relu)


class _Subsample(torch.autograd.Function):
    """``ShortcutA``; PyTorch would write its gradient in the other layout and then copy it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shortcut: ShortcutA) -> Tensor:
        ctx.shape, ctx.shortcut = x.shape, shortcut
        return shortcut(x)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None]:
        shortcut, channels = ctx.shortcut, ctx.shape[1]
        dx = torch.empty(ctx.shape, dtype=gradient.dtype, memory_format=torch.channels_last).zero_()
        of_x = gradient.narrow(1, shortcut.before, channels)
        dx[:, :, :: shortcut.stride, :: shortcut.stride] = of_x
        return dx, None


def _shortcut(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor | None:
    """What is added to a block's branch; None in a plain network."""
    if block.downsample is None:
        return None
    if isinstance(block.downsample, nn.Sequential):
        *layers, norm = block.downsample.children()
        assert isinstance(norm, nn.BatchNorm2d)
        return norm_relu(norm, nn.Sequential(*layers)(x), relu=False)[0]
    if isinstance(block.downsample, ShortcutA):
        return _Subsample.apply(x, block.downsample)
    return block.downsample(x)


def _transition(block: Transition, x: Pair) -> Pair:
    return norm_relu(block.bn1, block.maxpool(block.conv1(x[0])))


def _single(block: SingleBlock, x: Pair) -> Pair:
    branch, shortcut = x
    return norm_relu(block.bn1, block.conv1(branch), shortcut)


def _basic(block: BasicBlock, x: Pair) -> Pair:
    branch, shortcut = x
    out, _ = norm_relu(block.bn1, block.conv1(branch))
    return norm_relu(block.bn2, block.conv2(out), _shortcut(block, shortcut))


def _bottleneck(block: Bottleneck, x: Pair) -> Pair:
    branch, shortcut = x
    out, _ = norm_relu(block.bn1, block.conv1(branch))
    out, _ = norm_relu(block.bn2, block.conv2(out))
    return norm_relu(block.bn3, block.conv3(out), _shortcut(block, shortcut))


_BLOCKS: dict[type[nn.Module], Callable[[Any, Pair], Pair]] = {
    Transition: _transition,
    SingleBlock: _single,
    BasicBlock: _basic,
    Bottleneck: _bottleneck,
}


def _forward(model: ResNet, images: Tensor) -> Tensor:
    """``ResNet.forward`` with fused operations, between which activations travel as ``Pair``s."""
    model.check_input(images)
    layers = dict(model.named_children())
    x = images, images
    for name, layer in layers.items():
        if isinstance(layer, nn.BatchNorm2d):
            x = norm_relu(layer, x[0])
        elif name == "relu" and "bn1" in layers:
            continue  # norm_relu has applied it
        elif name in model.stage_names:
            for block in layer.children():
                x = _BLOCKS[type(block)](block, x)
        else:
            out = layer(x[0])
            x = out, out
    return x[0]


def fuse(model: ResNet) -> None:
    """Make ``model``, in place, use the fused operation in training; its weights do not change.

    Evaluation does not change, nor do pre-activation networks, whose norms come before the
    convolutions.

    Raises:
        UserError: ``fused.cpp`` cannot be compiled.
    """
    _library()
    if model.architecture.activation == "post":
        compute_in_training(model, _forward)
