"""3x3 convolutions of a training step on the CPU by Winograd's minimal filtering.

A processor with AVX-512 BF16 alone multiplies bf16 twice as fast as fp32, not more, and most of a
step is convolution. F(4x4, 3x3) of Lavin & Gray 2015 (arXiv:1509.09308) needs 36 multiplications
where the definition takes 144; ``winograd.cpp`` does it forward and for both gradients.
"""

from __future__ import annotations

import ctypes
import functools
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resnetlab.training.compiled import compiled

_LANES = 16
"""Channels that the compiled code handles at a time."""
_FEWEST = 32
"""Channels from which the products saved outweigh the sums added (16 lose, measured)."""


@functools.cache
def _library() -> ctypes.CDLL:
    library = compiled("winograd")
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.winograd_pack.argtypes = [pointer, pointer, size, size, ctypes.c_int]
    library.winograd_forward.argtypes = [*[pointer] * 3, *[size] * 5]
    library.winograd_weight_gradient.argtypes = [*[pointer] * 3, *[size] * 5]
    return library


class _Convolution(torch.autograd.Function):
    """x (n, in, h, w) in bf16, weight (out, in, 3, 3) in fp32, both in channels_last order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _apply(x, weight, turned=False)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        dx = _apply(gradient, weight, turned=True) if ctx.needs_input_grad[0] else None
        dweight = None
        if ctx.needs_input_grad[1]:
            dweight = torch.empty_like(weight)
            n, channels, height, width = x.shape
            _library().winograd_weight_gradient(
                *(t.data_ptr() for t in (x, gradient, dweight)),
                *(n, height, width, channels, len(weight)),
            )
        return dx, dweight


def _apply(x: Tensor, weight: Tensor, *, turned: bool) -> Tensor:
    """The convolution of x or, with ``turned``, its transpose: that of the output's gradient."""
    library = _library()
    out, channels = weight.shape[:2]
    packed = torch.empty(36 * out * channels, dtype=torch.bfloat16)
    library.winograd_pack(weight.data_ptr(), packed.data_ptr(), out, channels, turned)
    if turned:
        out, channels = channels, out
    n, _, height, width = x.shape
    y = torch.empty((n, out, height, width), dtype=x.dtype, memory_format=torch.channels_last)
    library.winograd_forward(
        *(t.data_ptr() for t in (x, packed, y)), n, height, width, channels, out
    )
    return y


def convolve(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """What ``convolution`` makes of x (n, c, h, w), by ``winograd.cpp`` in training and in bf16."""
    weight = convolution.weight
    fits = (
        convolution.training
        and x.dtype == torch.bfloat16
        and weight.dtype == torch.float32
        and all(t.is_contiguous(memory_format=torch.channels_last) for t in (x, weight))
    )
    if not fits:
        return nn.Conv2d.forward(convolution, x)
    return _Convolution.apply(x, weight)


def use_winograd(model: nn.Module) -> None:
    """Let the 3x3 convolutions of ``model``, in place, compute so in training; weights stay.

    Those of another stride or of few channels stay as they are. ValueError, one sentence, where
    ``winograd.cpp`` cannot be compiled.
    """
    _library()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _suits(module):
            module.forward = MethodType(convolve, module)


def _suits(convolution: nn.Conv2d) -> bool:
    channels = (convolution.in_channels, convolution.out_channels)
    same = nn.Conv2d(*channels, 3, padding=1, bias=False, device="meta")
    shape = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "bias")
    return (
        min(channels) >= _FEWEST
        and all(c % _LANES == 0 for c in channels)
        and all(getattr(convolution, name) == getattr(same, name) for name in shape)
    )
