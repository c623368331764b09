"""`resnetlab compare` as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TEXTBOOKS = Path(__file__).parent / "textbooks.py"


@pytest.mark.parametrize(("name", "code"), [("correct", 0), ("stem_without_relu", 1)])
def test_exit_code_json_and_diagram(resnetlab, tmp_path, name: str, code: int) -> None:
    file = tmp_path / "both.svg"
    answer = resnetlab("compare", f"{TEXTBOOKS}:{name}", "--json", "--diagram", file)
    assert answer.code == code
    values = json.loads(answer.out)
    assert values["candidate"] == name
    assert bool(values["differences"]) == bool(code)
    assert file.read_text().startswith("<svg")
    assert "running the code in" in answer.err


def test_what_cannot_be_compared_is_a_sentence(resnetlab) -> None:
    answer = resnetlab("compare", f"{TEXTBOOKS}:Block")
    assert answer.code == 2
    assert "needs the arguments fan_in, fan_out and stride" in answer.err
    assert "Traceback" not in answer.err


def test_the_readme_shows_what_is_printed(resnetlab) -> None:
    root = Path(__file__).parents[2]
    faulty = root / "tests" / "foreign" / "faulty_needless_projection.py"
    answer = resnetlab("compare", f"{faulty}:resnet18")
    assert f"```\n{answer.out.strip()}\n```" in (root / "README.md").read_text(encoding="utf-8")
