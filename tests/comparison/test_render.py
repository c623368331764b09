"""The text and the diagram of a comparison."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import textbooks

from resnetlab.comparison import Comparison, compare_models, draw, render


@pytest.fixture(scope="module")
def two_faults() -> Comparison:
    return compare_models(textbooks.two_faults_in_the_shortcut)


def test_text_has_place_code_paper_and_remedy_in_the_order_of_harm(two_faults) -> None:
    text = render(two_faults)
    assert text.index("1. bias-before-norm") < text.index("2. shortcut-option")
    assert "What makes it slower, larger or fragile:" in text
    assert "code: textbooks.py, line" in text
    assert "paper: Ioffe and Szegedy 2015" in text
    assert "remedy: bias=False." in text
    assert text.endswith("Verdict: differs in 2 places.")
    assert max(map(len, text.splitlines())) <= 100


def test_json_carries_the_same_under_stable_names(two_faults) -> None:
    values = two_faults.to_dict()
    assert values["verdict"] == "different"
    assert not values["identical_or_equivalent"]
    row = values["differences"][0]
    assert row["kind"] == "bias-before-norm"
    assert row["harm"] == "fragile"
    assert row["page"] == "docs/compare.md#bias-before-norm"
    assert row["lines"][0]["file"] == textbooks.__file__


def test_diagram_marks_the_blocks(two_faults) -> None:
    tree = ElementTree.fromstring(draw(two_faults))
    words = [node.text or "" for node in tree.iter() if node.tag.endswith("text")]
    assert "candidate: two_faults_in_the_shortcut" in words
    assert "bias-before-norm" in words
    assert "shortcut-option" in words
    assert any(word.startswith("3 x 3x3 conv 16") for word in words)


def test_diagram_of_a_network_that_does_not_run() -> None:
    def crashes():
        net = textbooks.correct()
        net.fc = None
        return net

    words = draw(compare_models(crashes))
    assert "verdict: different" in words
    assert "crash" in words
