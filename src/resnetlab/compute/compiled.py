"""C++ that is compiled once on the user's machine and kept, and how a network comes to use it."""

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

from resnetlab.compute.machine import compiler, processor
from resnetlab.errors import UserError
from resnetlab.files import atomic_write, cache_home

_FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi"]


@functools.cache
def compiled(name: str) -> ctypes.CDLL:
    """The library made from ``name``.cpp in this folder, for the execution of that name.

    UserError, one sentence, if this machine cannot compile it.
    """
    source = Path(__file__).parent / "kernels" / f"{name}.cpp"
    program = compiler()
    if program is None:
        raise UserError(f"execution {name} needs a C++ compiler (Debian: apt install g++).")
    # OpenMP's threads must be torch's own: two pools would wait for each other's cores.
    openmp = [str(path) for path in (Path(torch.__file__).parent / "lib").glob("libgomp*")]
    command = [program, *_FLAGS, str(source), "-Wl,--as-needed", *openmp]
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    # The flags are what -march=native reads.
    key = [source.read_text(encoding="utf-8"), *command, version.stdout, processor("flags")]
    digest = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    path = cache_home() / f"{name}-{digest}.so"
    try:
        if not path.exists():
            with atomic_write(path) as built:
                subprocess.run([*command, "-o", built], capture_output=True, text=True, check=True)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        reason = next((x for x in error.stderr.splitlines() if "error" in x), error.stderr[:200])
        raise UserError(f"execution {name}: {program} failed ({reason}); take eager.") from error
    except OSError as error:
        raise UserError(f"execution {name}: {error}; take eager.") from error


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's values are, for the library; None is C++'s null."""
    return None if tensor is None else tensor.data_ptr()


def compute_in_training(module: nn.Module, forward: Callable[[Any, Tensor], Tensor]) -> None:
    """Let ``module``, in place, compute ``forward(module, x)`` in training and only there.

    It can be copied, but is saved by its state dict only.
    """

    def choose(module: Any, x: Tensor) -> Tensor:
        return forward(module, x) if module.training else type(module).forward(module, x)

    module.forward = MethodType(choose, module)
