"""Batch norm, addition and ReLU as one operation of a training step on the CPU.

Between its convolutions a residual network moves memory: eager PyTorch goes over each activation
once or twice for every one of these, ``fused.cpp`` twice for all, forward and backward. It is
compiled once on the user's machine, in a few seconds, and kept in the cache.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from resnetlab.data.sources import cache_home
from resnetlab.files import atomic_write
from resnetlab.models import resnet
from resnetlab.training.execution import compiler, processor

_SOURCE = Path(__file__).with_suffix(".cpp")
_FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi"]
_LANES = 64
"""Values that the compiled code handles at a time."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled ``fused.cpp``. ValueError, one sentence, if this machine cannot compile it."""
    program = compiler()
    if program is None:
        raise ValueError("execution fused needs a C++ compiler (Debian: apt install g++).")
    # OpenMP's threads must be torch's own: two pools would wait for each other's cores.
    openmp = [str(path) for path in (Path(torch.__file__).parent / "lib").glob("libgomp*")]
    command = [program, *_FLAGS, str(_SOURCE), "-Wl,--as-needed", *openmp]
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    key = [_SOURCE.read_text(encoding="utf-8"), *command, version.stdout, processor()]
    name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    path = cache_home() / f"fused-{name}.so"
    try:
        if not path.exists():
            with atomic_write(path) as built:
                subprocess.run([*command, "-o", built], capture_output=True, text=True, check=True)
        compiled = ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        reason = next((x for x in error.stderr.splitlines() if "error" in x), error.stderr[:200])
        raise ValueError(f"execution fused: {program} failed ({reason}); take eager.") from error
    except OSError as error:
        raise ValueError(f"execution fused: {error}; take eager.") from error
    pointer, size, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    compiled.norm_forward.argtypes = [*[pointer] * 8, size, size, real, real, *[ctypes.c_int] * 2]
    compiled.norm_backward.argtypes = [*[pointer] * 9, size, size, *[ctypes.c_int] * 2]
    return compiled


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
        library().norm_forward(
            *map(_address, tensors),
            x.numel() // channels,
            channels,
            norm.eps,
            norm.momentum,
            relu,
            x.dtype == torch.bfloat16,
        )
        ctx.save_for_backward(x, skip, statistics)
        ctx.relu = relu
        return out, out.detach()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        d1, d2 = gradients
        x, skip, statistics = ctx.saved_tensors
        d1, d2 = (
            d.contiguous(memory_format=torch.channels_last) if d is not None else None
            for d in ((d2, None) if d1 is None else (d1, d2))
        )
        channels = x.size(1)
        dx, dskip = torch.empty_like(x), None if skip is None else torch.empty_like(x)
        dweight, dbias = torch.empty(2, channels)
        tensors = (d1, d2, x, skip, dx, dskip, dweight, dbias, statistics)
        library().norm_backward(
            *map(_address, tensors),
            x.numel() // channels,
            channels,
            ctx.relu,
            x.dtype == torch.bfloat16,
        )
        return dx, dskip, dweight, dbias, None, None


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


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


def _shortcut(block: Any, x: Tensor) -> Tensor | None:
    """What is added to a block's branch; None in a plain net."""
    if block.downsample is None:
        return None
    x = getattr(x, "twin", x)
    if isinstance(block.downsample, nn.Sequential):
        *layers, norm = block.downsample.children()
        assert isinstance(norm, nn.BatchNorm2d)
        return norm_relu(norm, nn.Sequential(*layers)(x), relu=False)
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
    changes. ValueError, one sentence, where ``fused.cpp`` cannot be compiled.
    """
    library()
    stem = dict(model.named_children())
    if "bn1" in stem:
        stem["bn1"].forward = MethodType(_in_training(norm_relu), stem["bn1"])
        stem["relu"].forward = MethodType(_in_training(lambda _, x: x), stem["relu"])
    for module in model.modules():
        forward = _FORWARDS.get(type(module))
        if forward is not None:
            module.forward = MethodType(_in_training(forward), module)


def _in_training(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    def choose(module: Any, x: Tensor) -> Tensor:
        return forward(module, x) if module.training else type(module).forward(module, x)

    return choose
