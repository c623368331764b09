"""Settings of torch that other code in this process may have changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Compute as torch does from the start: fp32, on the CPU, with gradients; then as before.

    As a decorator it does so for a function.
    """
    dtype = torch.get_default_dtype()
    # Such a context costs time at each operation, so it is entered only where it changes something.
    on_cpu = torch.get_default_device().type == "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        with torch.enable_grad(), nullcontext() if on_cpu else torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
