"""This computer: processor, memory, compiler, and the cores that this process may use."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal


def keep_memory() -> None:
    """Tell glibc to keep freed memory; without glibc, do nothing.

    Activations are freed and allocated again at every step. If their memory went back to the
    system, every page would fault again, which costs as much as the arithmetic on it.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)


def return_memory() -> None:
    """Give freed memory back to the system, in spite of ``keep_memory``; without glibc, do nothing.

    For what is seldom and large: milliseconds, and page faults where the memory is used again.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    # torch 2.9 and 2.10 have no public name for it.
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor("flags").split())


def fast_precision(device: Literal["cpu", "cuda"]) -> Literal["bf16", "fp16", "fp32"]:
    """The number type in which this CPU, or this GPU, multiplies fastest."""
    if device == "cpu":
        return "bf16" if has_fast_bf16() else "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def available_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least 1.

    Those that ``taskset`` leaves it, and no more than the CPU quota of its control group (a
    container's limit), rounded up.

    Args:
        root: The file system that holds ``proc`` and ``sys``.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _cpu_quotas(root))]))


def default_threads() -> int:
    """Threads to compute with where nobody asks for a number.

    OMP_NUM_THREADS if it is set, else torch's choice, which knows no quota, up to
    ``available_cores``.
    """
    import torch

    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    return min(torch.get_num_threads(), available_cores())


def _cpu_quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group allows in which this process is, from its own to the root."""
    for folder in _control_groups(root, "cpu"):
        if quota := _cpu_quota(folder):
            yield quota


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups in which this process is, from its own to the root."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for group in groups:
        _, controllers, name = group.split(":", 2)
        if not controllers:  # version 2
            hierarchies = [mount]
        elif controller in controllers.split(","):
            hierarchies = [mount / controller, mount / controllers]
        else:
            continue
        # In a container the names may be the host's, and only the root be there.
        path = PurePosixPath(name.lstrip("/"))
        for hierarchy in hierarchies:
            yield from (hierarchy / folder for folder in (path, *path.parents))


def _cpu_quota(folder: Path) -> float | None:
    """CPUs that one control group allows; None if it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # of no limit, version 2 says "max"
        return None


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take, without making others wait; on Linux.

    What the system has, and no more than the limits of its control groups leave.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return sys.maxsize
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
    free = [1024 * int(kilobytes)]
    for folder in _control_groups(root, "memory"):
        for names in (("max", "current"), ("limit_in_bytes", "usage_in_bytes")):  # versions 2, 1
            with contextlib.suppress(OSError, ValueError):  # of no limit, version 2 says "max"
                limit, used = ((folder / f"memory.{name}").read_text() for name in names)
                free.append(int(limit) - int(used))
    return max(0, min(free))


def compiler() -> str | None:
    """The C++ compiler of this machine, or None; every mode but eager needs one."""
    return next(filter(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++")), None)


def peak_memory_mb(device: str) -> float:
    """The most memory that this process has used so far, in MiB; on a GPU, for tensors.

    0 on Windows, which has no ``resource``.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent had before it started this process.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS


def processor(what: str = "model name") -> str:
    """The processor's model; with "flags", its instruction sets (on Linux)."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = (line.split(":", 1)[1].strip() for line in lines if line.startswith(what))
    return next(found, platform.processor() or platform.machine())
