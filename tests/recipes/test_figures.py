"""The documents say what was measured: ``benchmarks/figures.py`` has written them."""

import importlib
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.figures")


def test_the_documents_are_as_the_command_writes_them(figures):
    found = []
    for document in figures.DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert figures.written(text) == text, f"{document}: run `make figures`"
        found += re.findall(r"figures:begin (\S+)", text)
        assert text.count("figures:begin ") == text.count("figures:end ")
    assert sorted(found) == sorted(figures.SECTIONS)


def test_sections_alone_are_written(figures):
    stale = "before\n<!-- figures:begin stem -->\nold\n<!-- figures:end -->\nafter\n"
    fresh = figures.written(stale)
    assert fresh.startswith("before\n<!-- figures:begin stem -->\n\nIn the recipe's 12 epochs")
    assert fresh.endswith("\n\n<!-- figures:end -->\nafter\n")
    assert "old" not in fresh
    assert figures.written(fresh) == fresh
    with pytest.raises(KeyError):
        figures.written(stale.replace("stem", "steam"))


def test_pictures_are_drawn_from_a_run(figures, smoke, tmp_path, assert_png):
    run = shutil.copytree(smoke.run, tmp_path / "run")
    figures.draw(run, tmp_path)
    for name in ("curves.png", "predictions.png"):
        assert_png(tmp_path / name)


def test_no_document_has_the_former_name(figures):
    for document in figures.DOCUMENTS:
        assert "finetune-textbook" not in document.read_text(encoding="utf-8")
