"""Batch norm, addition and ReLU as one operation of a training step on the CPU.

Between its convolutions a residual network moves memory: eager PyTorch goes over each activation
once or twice for every one of these, ``fused.cpp`` twice for all, forward and backward.
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
from resnetlab.models import resnet

_LANES = 64
"""Values that the compiled code handles at a time."""


@functools.cache
def _library() -> ctypes.CDLL:
    library = compiled("fused")
    pointer, size, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    library.norm_forward.argtypes = [*[pointer] * 8, size, size, real, real, *[ctypes.c_int] * 2]
    library.norm_backward.argtypes = [*[pointer] * 9, size, size, *[ctypes.c_int] * 2]
    return library


class _NormReLU(torch.autograd.Function):
    """relu(norm(x) + skip) twice, for the next block's branch and for its shortcut.

    The gradients of the two are then added where they are read, not by a pass of their own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        skip: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: Any,
        relu: bool,
    ) -> tuple[Tensor, Tensor]:
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
) -> Tensor:
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
        x = nn.BatchNorm2d.forward(norm, x)  # the module's own may be this function
        x = x if skip is None else x + skip
        return x.relu() if relu else x
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    out, twin = _NormReLU.apply(x, skip, norm.weight, norm.bias, norm, relu)
    out.twin = twin
    return out


class _Subsample(torch.autograd.Function):
    """``ShortcutA``, whose gradient PyTorch would write in the other layout and copy over."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shortcut: resnet.ShortcutA) -> Tensor:
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


def _shortcut(block: Any, x: Tensor) -> Tensor | None:
    """What is added to a block's branch; None in a plain net."""
    if block.downsample is None:
        return None
    x = getattr(x, "twin", x)
    if isinstance(block.downsample, nn.Sequential):
        *layers, norm = block.downsample.children()
        assert isinstance(norm, nn.BatchNorm2d)
        return norm_relu(norm, nn.Sequential(*layers)(x), relu=False)
    if isinstance(block.downsample, resnet.ShortcutA):
        return _Subsample.apply(x, block.downsample)
    return block.downsample(x)


def _transition(block: resnet.Transition, x: Tensor) -> Tensor:
    return norm_relu(block.bn1, block.maxpool(block.conv1(x)))


def _single(block: resnet.SingleBlock, x: Tensor) -> Tensor:
    return norm_relu(block.bn1, block.conv1(x), _shortcut(block, x))


def _basic(block: resnet.BasicBlock, x: Tensor) -> Tensor:
    out = norm_relu(block.bn1, block.conv1(x))
    return norm_relu(block.bn2, block.conv2(out), _shortcut(block, x))


def _bottleneck(block: resnet.Bottleneck, x: Tensor) -> Tensor:
    out = norm_relu(block.bn1, block.conv1(x))
    out = norm_relu(block.bn2, block.conv2(out))
    return norm_relu(block.bn3, block.conv3(out), _shortcut(block, x))


_FORWARDS: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    resnet.Transition: _transition,
    resnet.SingleBlock: _single,
    resnet.BasicBlock: _basic,
    resnet.Bottleneck: _bottleneck,
}


def fuse(model: resnet.ResNet) -> None:
    """Let ``model``, in place, use the fused operation in training; its weights stay what they are.

    In evaluation, and in blocks of 2016, whose norms stand before the convolutions, nothing
    changes. UserError, one sentence, where ``fused.cpp`` cannot be compiled.
    """
    _library()
    stem = dict(model.named_children())
    if "bn1" in stem:
        compute_in_training(stem["bn1"], norm_relu)
        compute_in_training(stem["relu"], lambda _, x: x)
    for module in model.modules():
        forward = _FORWARDS.get(type(module))
        if forward is not None:
            compute_in_training(module, forward)
