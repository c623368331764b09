"""C++ compiled on the user's machine and cached, and how a network comes to use it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.compute.machine import compiler, processor
from resnetlab.console import print_to_stderr
from resnetlab.errors import UserError
from resnetlab.files import cache_home, flush

_FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi"]
_ABANDONED = 600
"""Seconds after which an unfinished build is taken for one whose process was killed."""


@functools.cache
def compiled(name: str) -> ctypes.CDLL:
    """The library made from ``name``.cpp in ``kernels/``, built if the cache holds none.

    In the cache it is called ``NAME-KEY-DIGEST.so``, KEY for what it is made from and DIGEST for
    its own bytes, which are compared before each use: a damaged library would crash the process, or
    compute something else.

    Raises:
        UserError: This machine cannot compile it, or cannot write to the cache.
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
    sources = [source, *sorted(source.parent.glob("*.h"))]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    key = [*texts, *command, version.stdout, processor("flags")]
    digest = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    folder, stem = cache_home(), f"{name}-{digest}"
    try:
        _remove_remains(folder, name)
        return ctypes.CDLL(str(_intact(folder, stem) or _build(command, folder, stem)))
    except subprocess.CalledProcessError as error:
        reason = next((x for x in error.stderr.splitlines() if "error" in x), error.stderr[:200])
        raise UserError(f"execution {name}: {program} failed ({reason}); take eager.") from error
    except OSError as error:
        raise UserError(f"execution {name}: {error}; take eager.") from error


def _intact(folder: Path, stem: str) -> Path | None:
    """A library in the cache whose bytes are those that were built; all others are removed."""
    for path in folder.glob(f"{stem}-*.so"):
        if path.stem == f"{stem}-{_sha256(path)}":
            return path
        path.unlink(missing_ok=True)
    return None


def _build(command: list[str], folder: Path, stem: str) -> Path:
    """Compile, write all of it to the disk, and only then give it its name."""
    print_to_stderr(f"compiling {stem.partition('-')[0]}.cpp for this processor (once) ...")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=f".{stem}-partial-") as workplace:
        built = Path(workplace) / "library.so"
        subprocess.run([*command, "-o", built], capture_output=True, text=True, check=True)
        flush(built)
        path = built.replace(folder / f"{stem}-{_sha256(built)}.so")
        flush(folder)
    return path


def _remove_remains(folder: Path, name: str) -> None:
    """Remove what killed builds left: folders, or of version 0.1.0 files."""
    for remains in folder.glob(f".{name}-*-partial-*"):
        if time.time() - remains.lstat().st_mtime < _ABANDONED:
            continue
        if remains.is_dir():
            shutil.rmtree(remains, ignore_errors=True)
        else:
            remains.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def address(tensor: Tensor | None) -> int | None:
    """The address of a tensor's values, for the library; None becomes a null pointer."""
    return None if tensor is None else tensor.data_ptr()


def compute_in_training(module: nn.Module, forward: Callable[[Any, Tensor], Tensor]) -> None:
    """Make ``module``, in place, compute ``forward(module, x)`` in training mode only.

    It can still be copied, but only its state dict can be saved.
    """

    def choose(module: Any, x: Tensor) -> Tensor:
        return forward(module, x) if module.training else type(module).forward(module, x)

    module.forward = MethodType(choose, module)
