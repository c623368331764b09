"""What this computer has; control groups as the files that they are."""

import os
from pathlib import Path

import pytest
import torch

from resnetlab.compute import machine
from resnetlab.compute.execution import PLAIN
from resnetlab.compute.machine import (
    available_cores,
    available_memory,
    default_threads,
    has_fast_bf16,
)

OF_CORES = 8


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(OF_CORES)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/user.slice/job.scope\n"}
V1 = {"proc/self/cgroup": "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/\n"}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, OF_CORES),  # no control groups: macOS
        (V2, OF_CORES),  # the root has no cpu.max
        (V2 | {"sys/fs/cgroup/user.slice/job.scope/cpu.max": "max 100000\n"}, OF_CORES),
        (V2 | {"sys/fs/cgroup/user.slice/job.scope/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/user.slice/job.scope/cpu.max": "150000 100000\n"}, 2),
        (V2 | {"sys/fs/cgroup/user.slice/job.scope/cpu.max": "10000 100000\n"}, 1),
        (V2 | {"sys/fs/cgroup/user.slice/job.scope/cpu.max": "1600000 100000\n"}, OF_CORES),
        (
            V2
            | {
                "sys/fs/cgroup/user.slice/cpu.max": "200000 100000\n",  # the parent's holds too
                "sys/fs/cgroup/user.slice/job.scope/cpu.max": "500000 100000\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (  # a container that sees its own group as the root, under the host's name
            V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us": "100000\n",
            },
            OF_CORES,
        ),
        (V2 | {"sys/fs/cgroup/user.slice/job.scope/cpu.max": "nonsense\n"}, OF_CORES),
    ],
)
def test_quotas_of_control_groups(tmp_path, files, cores):
    assert available_cores(write(tmp_path, files)) == cores


def test_cores_are_those_of_the_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores(tmp_path) == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(tmp_path) == 6


def test_default_threads_know_the_quota(monkeypatch, use_threads):
    use_threads(4)
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    assert default_threads() == 4  # OMP_NUM_THREADS is set in these tests
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert default_threads() == 2
    PLAIN.set_up()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("name", "fast"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512_f", False)]
)
def test_fast_bf16_is_told_by_torch_or_by_linux(monkeypatch, name, fast, known):
    if known:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True}, raising=False)
    else:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        monkeypatch.setattr(machine, "processor", lambda what: f"fpu {name} sse2")
    assert has_fast_bf16() is fast


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8000),
        (V2, 8000),
        (V2 | {"sys/fs/cgroup/user.slice/job.scope/memory.max": "max\n"}, 8000),
        (
            V2
            | {
                "sys/fs/cgroup/user.slice/memory.max": "5120000\n",
                "sys/fs/cgroup/user.slice/memory.current": "1024000\n",
            },
            4000,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes": "2048000\n",
                "sys/fs/cgroup/memory/docker/ab/memory.usage_in_bytes": "1024000\n",
            },
            1000,
        ),
    ],
)
def test_free_memory_is_what_all_limits_leave(tmp_path, files, free):
    memory = {"proc/meminfo": "MemTotal: 16000 kB\nMemAvailable: 8000 kB\n"}
    assert available_memory(write(tmp_path, memory | files)) == 1024 * free


def test_where_nothing_tells_memory_is_not_limited(tmp_path):
    assert available_memory(tmp_path) > 2**60
