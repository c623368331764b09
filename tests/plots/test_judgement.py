"""The figures of an evaluation, of 2 to 1,000 classes with long names."""

import json

import pytest
import torch
from rich.cells import cell_len

from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.result import Evaluation
from resnetlab.evaluation.robustness import Robustness
from resnetlab.plots.classes import figure_classes
from resnetlab.plots.confusion import figure_confusion
from resnetlab.plots.evaluation import evaluation_figures
from resnetlab.plots.reliability import figure_reliability
from resnetlab.plots.robustness import figure_corruptions
from resnetlab.plots.style import own_style, shorten, shorten_all, write_figure


def evaluation(classes, n=3000, temperature=1.6, threshold=0.3):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    logits = 2 * torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), labels] += 5
    return Evaluation(
        dataset="zoo",
        split="test",
        classes=tuple(f"猫 the common {i} of $x^2$ and of long names" for i in range(classes)),
        answers=Answers.read(logits, labels, temperature),
        temperature=temperature,
        threshold=threshold,
    )


@pytest.mark.parametrize("classes", [2, 100, 1000])
def test_all_are_drawn_from_what_json_keeps(classes, tmp_path, assert_png, assert_readable):
    found = evaluation(classes)
    values = json.loads(json.dumps(found.to_dict()))
    assert values == found.to_dict()
    figures = evaluation_figures(values)
    assert figures.keys() == {"confusion", "classes", "reliability"}
    for name, figure in figures.items():
        assert_png(write_figure(figure, tmp_path / f"{name}.png"))
        if classes <= 20 or name != "confusion":  # of many, the names along x stand upright
            with own_style():
                assert_readable(figure)


def test_bars_show_recall_and_its_interval_the_worst_first():
    found = evaluation(10)
    figure = figure_classes(found.per_class(), title="zoo")
    (axes,) = figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    rows = sorted(found.per_class(), key=lambda row: row["recall"])
    assert widths == [row["recall"] for row in rows]
    (bars,) = [c for c in axes.collections if len(c.get_segments()) == 10]
    ends = [tuple(x for x, _ in segment) for segment in bars.get_segments()]
    assert ends == [pytest.approx(tuple(row["recall_interval"])) for row in rows]
    assert f"mean {found.balanced_accuracy:.1f} %" in axes.get_title()
    many = figure_classes(evaluation(300).per_class())
    assert len(many.axes[0].patches) == 100
    assert many.axes[0].get_title().startswith("the 100 worst of 300 classes")


def test_a_class_without_images_has_no_bar():
    rows = evaluation(3).per_class()
    rows[1] |= {"n": 0, "recall": 0.0, "recall_interval": (0.0, 100.0)}
    assert len(figure_classes(rows).axes[0].patches) == 2


def test_reliability_shows_both_temperatures_and_the_threshold():
    values = evaluation(10).to_dict()
    bins, curve = figure_reliability(values).axes
    labels = [text.get_text() for text in bins.get_legend().get_texts()]
    assert labels == [
        "honest",
        f"as trained: error {values['calibration_error']:.1f} %",
        f"temperature 1.60: error {values['tempered_calibration_error']:.1f} %",
    ]
    answered = 100 - values["none_of_these"]["rejected"]
    stars = [line for line in curve.get_lines() if line.get_marker() == "*"]
    assert [line.get_xdata()[0] for line in stars] == [pytest.approx(answered)]
    plain = evaluation(10, temperature=1.0, threshold=None).to_dict()
    bins, curve = figure_reliability(plain).axes
    assert len(bins.get_legend().get_texts()) == 2
    assert all(line.get_marker() != "*" for line in curve.get_lines())


CELLS = {"share": "80.0", "count": "8", "both": "80.0\n(8)"}


@pytest.mark.parametrize("show", CELLS)
def test_confusions_as_shares_and_as_counts(show):
    figure = figure_confusion(torch.tensor([[8, 2], [0, 5]]), ["cat", "dog"], show=show)
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert cells[0, 0] == CELLS[show]
    assert figure.axes[1].get_ylabel() == (
        "images" if show == "count" else "share of the true class (%)"
    )


def test_of_a_thousand_classes_the_largest_confusions_are_named():
    matrix = 50 * torch.eye(1000, dtype=torch.int64)
    matrix[3, 7] = 40
    names = [f"class {i}" for i in range(1000)]
    label = figure_confusion(matrix, names).get_supxlabel()
    assert label.endswith("class 3 taken for class 7: 40")


def test_corruptions_as_a_table_and_as_bars(tmp_path, assert_readable):
    clean = torch.ones(50, dtype=torch.bool)
    right = torch.rand(15, 5, 50) < 0.6
    found = Robustness(dataset="zoo", split="test", clean=clean, right=right)
    values = json.loads(json.dumps(found.to_dict()))
    assert values["drop"] == pytest.approx(100 - values["top1"])
    low, high = values["top1_interval"]
    assert low < values["top1"] < high
    rows = values["corruptions"]
    assert values["top1"] == pytest.approx(sum(row["top1"] for row in rows) / 15)
    assert rows[3]["by_severity"][1] == pytest.approx(100 * float(right[3, 1].float().mean()))
    figure = figure_corruptions(values)
    write_figure(figure, tmp_path / "corruptions.png")
    assert_readable(figure)
    assert figure.axes[0].texts[0].get_text() == f"{rows[0]['by_severity'][0]:.0f}"


def test_names_that_would_be_shortened_alike_show_where_they_differ():
    names = [f"Red-breasted nuthatch (adult {kind}, winter)" for kind in ("male", "female")]
    assert shorten(names[0], 18) == shorten(names[1], 18)
    male, female, short = shorten_all([*names, "wren"], 18)
    assert short == "wren"
    assert "male" in male
    assert "female" in female
    assert max(len(male), len(female)) <= 18


@pytest.mark.parametrize("name", ["猫" * 40, "x" * 100, "a b" * 30, "é"])
def test_a_name_is_shortened_to_the_room_there_is(name):
    assert cell_len(shorten(name, 14)) <= 14
    assert shorten_all([name, name], 14)[0] == shorten_all([name, name], 14)[1]
