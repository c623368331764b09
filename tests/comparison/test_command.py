"""`resnetlab compare` as it is called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def compare(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resnetlab", "compare", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "code"), [("correct", 0), ("stem_without_relu", 1)])
def test_exit_code_json_and_diagram(tmp_path, name: str, code: int) -> None:
    file = tmp_path / "both.svg"
    run = compare(f"{HERE}/textbooks.py:{name}", "--json", "--diagram", str(file))
    assert run.returncode == code
    values = json.loads(run.stdout)
    assert values["candidate"] == name
    assert bool(values["differences"]) == bool(code)
    assert file.read_text().startswith("<svg")


def test_what_cannot_be_compared_is_a_sentence() -> None:
    run = compare(f"{HERE}/textbooks.py:Block")
    assert run.returncode == 2
    assert "needs the arguments fan_in, fan_out and stride" in run.stderr
    assert "Traceback" not in run.stderr
