"""The table of kinds: promised names, levels of harm, the page made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import textbooks

from resnetlab.comparison import Comparison, compare_models, render
from resnetlab.comparison.report import HARMS, KINDS, Findings, Made, document, plural

ROOT = Path(__file__).parents[2]
PROMISED = [
    "activation",
    "activation-order",
    "bias-before-norm",
    "block",
    "channels",
    "concatenation",
    "crash",
    "depth",
    "dilation",
    "dropout",
    "extra-addition",
    "extra-layer",
    "extra-max-pool",
    "extra-norm",
    "extra-operation",
    "extra-relu",
    "fixed-size",
    "function",
    "groups",
    "head-bias",
    "head-shape",
    "in-channels",
    "init",
    "kernel",
    "max-pool",
    "merge",
    "missing-addition",
    "missing-layer",
    "missing-max-pool",
    "missing-norm",
    "missing-projection",
    "missing-relu",
    "needless-projection",
    "norm-affine",
    "norm-after-addition",
    "norm-statistics",
    "norm-type",
    "num-classes",
    "order",
    "output",
    "padding",
    "pooling",
    "projection-shape",
    "relu-before-addition",
    "shared-weights",
    "shortcut-option",
    "shortcut-source",
    "single-image",
    "softmax",
    "stem",
    "stride",
    "stride-placement",
    "train-mode",
    "transposed",
    "unregistered",
    "unused-parameters",
    "width",
]
"""Names of version 0.1.0; graders depend on them."""


def test_promised_names_are_kept() -> None:
    assert set(PROMISED) <= KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_kind_is_complete(name: str) -> None:
    kind = KINDS[name]
    assert kind.harm in HARMS
    assert kind.what.endswith(".")
    assert kind.remedy.endswith(".")
    assert kind.example


def test_every_kind_that_the_source_names_is_in_the_table() -> None:
    import re

    source = "".join(p.read_text() for p in (ROOT / "src/resnetlab/comparison").glob("*.py"))
    named = re.findall(r'(?:found\.add|self\.say|Cause)\(\s*"([a-z-]+)"', source)
    assert len(set(named)) > 30
    assert set(named) <= KINDS.keys()


def test_page_of_the_documentation_is_made_of_the_table() -> None:
    page = (ROOT / "docs/compare.md").read_text(encoding="utf-8")
    assert page == document(), "run python -m resnetlab.comparison.report > docs/compare.md"


def test_findings_are_in_the_order_of_harm_and_join_places() -> None:
    found = Findings()
    found.add("activation", "a.", "x")
    found.add("bias-before-norm", "{amount} needless {amount:parameter}.", "y", amount=1)
    found.add("missing-relu", "m.", "z")
    found.add("missing-relu", "m.", "w")
    rows = found.differences()
    assert [row.kind for row in rows] == ["missing-relu", "bias-before-norm", "activation"]
    assert rows[0].places == ("z", "w")
    assert rows[1].what == "1 needless parameter."
    found.add("bias-before-norm", "{amount} needless {amount:parameter}.", "y2", amount=1000)
    assert found.differences()[1].what == "1,001 needless parameters."
    found.add("not-a-resnet", "n.")
    assert found.differences()[0].kind == "not-a-resnet"


def test_findings_with_an_unknown_kind_are_refused() -> None:
    with pytest.raises(KeyError):
        Findings().add("no-such-kind", "x")


def test_the_line_shown_is_the_innermost_that_made_nothing_right() -> None:
    helper, one, two = ("net.py", 1), ("net.py", 2), ("net.py", 3)
    made = {
        "a": Made("Conv2d", (helper, one)),
        "b": Made("Conv2d", (helper, two)),
        "norm": Made("BatchNorm2d", (helper, two)),
    }
    rows = [(("b",), two), (("a", "b"), helper), (("norm",), helper), (("unknown",), None)]
    for modules, line in rows:
        found = Findings(made=made)
        for module in modules:
            found.add("bias-before-norm", "bias", module, module=module)
        shown = [(line.file, line.line) for line in found.differences()[0].lines]
        assert shown == ([line] if line else [])


def test_a_finding_that_another_explains_is_dropped() -> None:
    found = Findings()
    found.add("extra-operation", "a.", line=("net.py", 1))
    found.add("extra-operation", "b.", line=("net.py", 2))
    assert found.drop("extra-operation", ("net.py", 1))
    assert not found.drop("stem")
    assert [row.what for row in found.differences()] == ["b."]


def test_plural() -> None:
    assert plural(1, "block") == "1 block"
    assert plural(1200, "block") == "1,200 blocks"


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
