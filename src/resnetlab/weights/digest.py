"""A digest of plain values and tensors, so that a changed byte anywhere is noticed.

The checksums of a zip file do not cover its directory, and torch reads what that says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def digest(value: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of nested dicts, lists, tensors and scalars."""
    found = hashlib.sha256()
    _add(found, value)
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        found.update(f"dict {len(value)}".encode())
        for name in sorted(value, key=repr):
            found.update(repr(name).encode())
            _add(found, value[name])
    elif isinstance(value, list | tuple):
        found.update(f"list {len(value)}".encode())
        for item in value:
            _add(found, item)
    elif isinstance(value, Tensor):
        found.update(f"{value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().flatten()
        found.update(flat.view(torch.uint8).numpy().data)
    else:
        found.update(repr(value).encode())
