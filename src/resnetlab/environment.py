"""What others have set in this process or left in its environment, and what our work needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def matplotlib_importable() -> Iterator[None]:
    """Import matplotlib in the body, whatever backend MPLBACKEND names; the variable stays.

    A notebook names its own backend to every program that it starts, and matplotlib refuses to be
    imported where that is not installed. We draw to files, without any backend; for others the one
    that is named holds if it is there.
    """
    named = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with suppress(ValueError):
            sys.modules["matplotlib"].rcParams["backend"] = named


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute in fp32, on the CPU, with gradients in the body, or in a function so decorated.

    Others may have set another default dtype or device, and find theirs again after it. A device
    costs time at each operation, so it is entered only where it changes something.
    """
    import torch

    with ExitStack() as stack:
        if torch.get_default_dtype() != torch.float32:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.enable_grad())
        yield
