import subprocess

import pytest

from resnetlab.compute import compiled
from resnetlab.compute.machine import compiler

needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")


@needs_compiler
def test_compiled_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    compiled.compiled.__wrapped__("fused")
    assert len(list(tmp_path.iterdir())) == 1
    real = subprocess.run

    def no_compilation(command, **options):
        assert "--version" in command
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", no_compilation)
    compiled.compiled.__wrapped__("fused")


@needs_compiler
def test_a_compiler_that_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "_FLAGS", ["--no-such-option"])
    with pytest.raises(ValueError, match=r"^execution fused: .* failed \(.*\); take eager\.$"):
        compiled.compiled.__wrapped__("fused")
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        compiled.compiled.__wrapped__("fused")
