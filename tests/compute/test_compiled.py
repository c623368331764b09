"""Libraries of our own making: built once, kept, and never trusted unread."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest
import torch

from resnetlab.compute import compiled as module
from resnetlab.compute.kernels import fused
from resnetlab.compute.machine import compiler

needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")
load = module.compiled.__wrapped__  # without its memory


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library ``fused``, in a folder of its own; not to be changed."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNETLAB_HOME", str(folder))
        load("fused")
    (path,) = folder.iterdir()
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    return tmp_path


def forbid_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run

    def no_compilation(command, **options):
        assert "--version" in command
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", no_compilation)


def damaged(content: bytes, seed: int) -> bytes:
    """With one bit of a hundred cases flipped; in twenty more cut off, in the first to nothing."""
    if seed >= 100:
        return content[: len(content) * (seed - 100) // 20]
    position = random.Random(seed).randrange(8 * len(content))
    changed = bytearray(content)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


@needs_compiler
def test_compiled_once_and_kept(built, cache, monkeypatch):
    (cache / built.name).write_bytes(built.read_bytes())
    forbid_compilation(monkeypatch)
    load("fused")
    assert [path.name for path in cache.iterdir()] == [built.name]


@needs_compiler
@pytest.mark.parametrize("seed", range(120))
def test_a_damaged_library_is_never_loaded(built, cache, monkeypatch, seed):
    content, path = built.read_bytes(), cache / built.name
    path.write_bytes(damaged(content, seed))
    assert path.read_bytes() != content
    loaded = []
    monkeypatch.setattr(module, "_build", lambda *_: loaded.append("built") or built)
    monkeypatch.setattr(module.ctypes, "CDLL", loaded.append)
    load("fused")
    assert loaded == ["built", str(built)]
    assert not path.exists()


@needs_compiler
def test_a_damaged_library_is_built_again(built, cache, monkeypatch):
    (cache / built.name).write_bytes(damaged(built.read_bytes(), 0))
    fresh = load("fused")
    (path,) = cache.iterdir()
    assert module._intact(cache, path.stem.rpartition("-")[0]) == path
    x = torch.randn(4, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    fused._library()  # tells the types of its arguments
    fresh.norm_forward.argtypes = fused._library().norm_forward.argtypes
    monkeypatch.setattr(fused, "_library", lambda: fresh)
    out, _ = fused.norm_relu(torch.nn.BatchNorm2d(64), x)
    torch.testing.assert_close(out, torch.nn.BatchNorm2d(64)(x).relu())


@needs_compiler
def test_what_killed_builds_left_is_removed(built, cache):
    (cache / built.name).write_bytes(built.read_bytes())
    old, older, running = (
        cache / f".fused-0123456789abcdef-partial-{x}" for x in ("a", "b.so", "c")
    )
    old.mkdir()
    (old / "library.so").write_bytes(b"half")
    older.write_bytes(b"half")
    running.mkdir()
    for path in (old, older):
        os.utime(path, (0, time.time() - 3600))
    load("fused")
    assert {path.name for path in cache.iterdir()} == {built.name, running.name}


@needs_compiler
def test_a_compiler_that_fails_is_named(cache, monkeypatch):
    monkeypatch.setattr(module, "_FLAGS", ["--no-such-option"])
    with pytest.raises(ValueError, match=r"^execution fused: .* failed \(.*\); take eager\.$"):
        load("fused")
    assert not list(cache.iterdir())


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(module, "compiler", lambda: None)
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        load("fused")
