"""The computer: what it is, and what it can do at most."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnetlab.benchmark.records import Row
from resnetlab.benchmark.timing import repeat
from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import has_fast_bf16, processor


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, threads, versions."""
    packages = ("torch", "torchvision", "resnetlab")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "fast_bf16": has_fast_bf16(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def describe(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows and machine as plain values for JSON."""
    return {"machine": machine(), "rows": [row.to_dict() for row in rows]}


def measure_limits(execution: Execution, *, repeats: int = 8) -> tuple[float, float]:
    """GFLOP/s of a large matrix product and of a large 3x3 convolution: the best of ``repeats``.

    In bf16 where the machine multiplies it in hardware, else in fp32, whatever the execution's
    number type: what the machine could do, not what this execution could.
    """
    device = execution.device
    fast = device == "cuda" or has_fast_bf16()
    options: Any = {"device": device, "dtype": torch.bfloat16 if fast else torch.float32}
    n, channels, size, batch = 2048, 256, 28, 16
    a, b = torch.rand(n, n, **options), torch.rand(n, n, **options)
    images = torch.rand(batch, channels, size, size, **options)
    weight = torch.rand(channels, channels, 3, 3, **options)
    images, weight = (x.to(memory_format=torch.channels_last) for x in (images, weight))
    jobs = {
        lambda: torch.mm(a, b): 2 * n**3,
        lambda: F.conv2d(images, weight, padding=1): 18 * batch * (size * channels) ** 2,
    }

    def work(job: Callable[[], Tensor]) -> None:
        job()
        wait_for(execution)

    with torch.inference_mode():
        product, convolution = (
            operations / min(repeat(partial(work, job), repeats=repeats, seconds=1.0)) / 1e9
            for job, operations in jobs.items()
        )
    return product, convolution


def wait_for(execution: Execution) -> None:
    if execution.device == "cuda":
        torch.cuda.synchronize()
