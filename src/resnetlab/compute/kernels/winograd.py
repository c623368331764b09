"""3x3 convolutions of a training step on the CPU by Winograd's minimal filtering.

With AVX-512 BF16 but without AMX a processor multiplies bf16 at most twice as fast as fp32, and
most of a step is convolution. F(4x4, 3x3) of Lavin & Gray 2015 (arXiv:1509.09308) needs 36
multiplications where the definition needs 144; ``winograd.cpp`` computes the convolution and both
gradients in this way.
"""

from __future__ import annotations

import ctypes
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resnetlab.compute.compiled import address, compiled, compute_in_training
from resnetlab.models.fast import Transition

_LANES = 16
"""Channels that the compiled code handles at a time."""
_FEWEST = 16
"""Fewest channels at which the saved products outweigh the added sums (measured in steps of 16)."""
_MOST_STRIDED = 32
"""Most input channels at which it pays with stride 2, where three of four outputs are discarded: it
needs no more multiplications than the definition, and oneDNN is slow there (measured)."""


@cache
def _library() -> ctypes.CDLL:
    library = compiled("winograd")
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.winograd_forward.argtypes = 5 * [pointer] + 6 * [size] + [ctypes.c_int]
    library.winograd_weight_gradient.argtypes = 4 * [pointer] + 6 * [size]
    return library


class _Convolution(torch.autograd.Function):
    """x (n, in, h, w) in bf16, weight (out, in, 3, 3) in fp32, both in channels_last order.

    With ``pool`` 2x2 max pooling follows, and its input is never written; nor, with stride 2, is
    what is not in the output.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, pool: bool) -> Tensor:
        n, _, height, width = x.shape
        height, width = (size // 2 if pool else -(-size // stride) for size in (height, width))
        shape = (n, len(weight), height, width)
        y = _empty(shape, torch.bfloat16)
        winners = _empty(shape, torch.uint8) if pool else None
        _apply(x, None, weight, y, winners, x.shape, stride, turned=False)
        ctx.save_for_backward(x, weight, winners)
        ctx.stride = stride
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight, winners = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        n, channels, height, width = x.shape
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            _apply(gradient, winners, weight, dx, None, x.shape, ctx.stride, turned=True)
        if ctx.needs_input_grad[1]:
            dweight = torch.empty_like(weight)
            tensors = map(address, (x, gradient, winners, dweight))
            sizes = (n, height, width, channels, len(weight), ctx.stride)
            _library().winograd_weight_gradient(*tensors, *sizes)
        return dx, dweight, None, None


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)


def _apply(
    x: Tensor,
    x_winners: Tensor | None,
    weight: Tensor,
    y: Tensor,
    y_winners: Tensor | None,
    shape: torch.Size,
    stride: int,
    *,
    turned: bool,
) -> None:
    """Write to y the convolution of x or, with ``turned``, the transposed one of a gradient x.

    ``shape`` is that of the convolution's input.
    """
    tensors = map(address, (x, x_winners, weight, y, y_winners))
    n, _, height, width = shape
    sizes = (n, height, width, x.size(1), y.size(1), stride)
    _library().winograd_forward(*tensors, *sizes, turned)


def _multiply(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of at most 2x2 pixels, where every output sees every input, as one product.

    It needs 16 multiplications; a 4x4 tile needs 36, and most of its outputs would be discarded.
    """
    n, _, height, width = x.shape
    filters = weight.permute(0, 2, 3, 1)
    rows = [
        filters[:, 1 - i : 1 - i + height, 1 - j : 1 - j + width].flatten(1)
        for i in range(height)
        for j in range(width)
    ]
    y = nn.functional.linear(x.permute(0, 2, 3, 1).flatten(1), torch.cat(rows).bfloat16())
    return y.view(n, height, width, -1).permute(0, 3, 1, 2)


def convolve(convolution: nn.Conv2d, x: Tensor, *, pool: bool = False) -> Tensor:
    """``convolution`` of x (n, c, h, w) and, with ``pool``, 2x2 max pooling.

    In bf16 and channels_last it is computed by ``winograd.cpp`` (at most 2x2 pixels: as one
    product), otherwise by PyTorch.
    """
    weight = convolution.weight
    fits = (
        x.dtype == torch.bfloat16
        and weight.dtype == torch.float32
        and x.numel() > 0
        and (not pool or (min(x.shape[2:]) > 1 and convolution.stride == (1, 1)))
        and all(t.is_contiguous(memory_format=torch.channels_last) for t in (x, weight))
    )
    small = max(x.shape[2:]) <= 2 and convolution.stride == (1, 1)
    if small or not fits:
        y = _multiply(x, weight) if fits else nn.Conv2d.forward(convolution, x)
        return nn.functional.max_pool2d(y, 2) if pool else y
    missing = -x.size(1) % _LANES
    if missing:  # channels of zeros
        x, weight = (
            nn.functional.pad(t, (0, 0, 0, 0, 0, missing)).contiguous(
                memory_format=torch.channels_last
            )
            for t in (x, weight)
        )
    return _Convolution.apply(x, weight, convolution.stride[0], pool)


def use_winograd(model: nn.Module) -> None:
    """Make the 3x3 convolutions of ``model``, in place, use ``convolve`` in training.

    Weights do not change. Convolutions with few channels, with stride 2 and many channels, with a
    larger stride, or with a number of output channels that is no multiple of 16 stay as they are.

    Raises:
        UserError: ``winograd.cpp`` cannot be compiled.
    """
    _library()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _suits(module):
            compute_in_training(module, convolve)
    for module in model.modules():
        if isinstance(module, Transition) and _suits(module.conv1):
            compute_in_training(module.conv1, partial(convolve, pool=True))
            compute_in_training(module.maxpool, lambda _, x: x)


def _suits(convolution: nn.Conv2d) -> bool:
    channels = (convolution.in_channels, convolution.out_channels)
    stride = convolution.stride[0]
    same = nn.Conv2d(*channels, 3, stride, padding=1, bias=False, device="meta")
    shape = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "bias")
    return (
        min(channels) >= _FEWEST
        and (stride == 1 or (stride == 2 and convolution.in_channels <= _MOST_STRIDED))
        and convolution.out_channels % _LANES == 0
        and all(getattr(convolution, name) == getattr(same, name) for name in shape)
    )
