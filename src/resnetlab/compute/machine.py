"""What this computer has, and how this process is set up for it."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
from pathlib import Path

import torch


def keep_memory() -> None:
    """Tell glibc to keep freed memory: activations are freed and allocated again at every step.

    Returned to the system, each of their pages would be faulted in anew, which costs as much as
    the arithmetic on it. Elsewhere than on glibc this does nothing.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def compiler() -> str | None:
    """The C++ compiler of this machine, if there is one: all modes but eager need it."""
    return next(filter(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++")), None)


def peak_memory_mb(device: str) -> float:
    """The most memory that this process has held so far, in MiB; on a GPU, its tensors' alone."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent had before it started this process.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS


def processor(what: str = "model name") -> str:
    """The processor's model or, with "flags", its instructions where Linux tells them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = (line.split(":", 1)[1].strip() for line in lines if line.startswith(what))
    return next(found, platform.processor() or platform.machine())
