"""What was measured on this machine: remembered in the cache, by what it depends on."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from resnetlab.compute.machine import processor


def memory_key(threads: int, *work: Any) -> str:
    """A short name for this machine and its libraries, ``threads`` and plain values."""
    versions = [torch.__version__, version("resnetlab")]
    # Of one model's name, virtual machines may have different instructions.
    machine = [platform.machine(), processor(), processor("flags"), threads, *versions]
    return hashlib.sha256(json.dumps([*machine, *work]).encode()).hexdigest()[:16]


def read_memory(path: Path) -> dict[str, dict[str, Any]]:
    """What is remembered, by ``memory_key``; nothing where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
