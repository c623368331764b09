"""Tables and figures of runs whose numbers are known."""

import csv
import math

import numpy as np
import pytest

from resnetlab.models.architecture import get_architecture
from resnetlab.plots.style import write_figure
from resnetlab.study.figures import figure_study
from resnetlab.study.summary import Row, Spread, summarize_runs, write_table
from resnetlab.study.table import STUDIES, get_study, planned_runs


def row(variant, error, seeds=2, epochs=8):
    """A variant whose error falls to ``error`` and whose seeds differ by a point."""
    fields = variant.changes.get("model_overrides", {})
    histories, results = [], []
    for seed in range(seeds):
        end = error + seed
        histories.append(
            [
                {
                    "epoch": epoch,
                    "train_top1": 100 - end - 40 / epoch,
                    "val_top1": 100 - end - 2 - 40 / epoch,
                    "seconds": 30.0,
                }
                for epoch in range(1, epochs + 1)
            ]
        )
        results.append({"top1": 100 - end - 1})
    return Row(
        variant=variant,
        architecture=get_architecture(variant.changes.get("model", "resnet20"), **fields),
        train_size=variant.changes.get("train_size"),
        histories=tuple(histories),
        results=tuple(results),
    )


def rows_of(study, seeds=2):
    plain = [i * 9 if "plain" in v.name else i / 2 for i, v in enumerate(study.variants)]
    return [row(v, 10 + more, seeds) for v, more in zip(study.variants, plain, strict=True)]


@pytest.mark.parametrize("values", [(), (3.0,), (1.0, 2.0, 4.0)])
def test_spread_is_numpys(values):
    spread = Spread(values)
    if values:
        assert spread.mean == pytest.approx(np.mean(values))
    if len(values) > 1:
        assert spread.deviation == pytest.approx(np.std(values, ddof=1))
    else:
        assert math.isnan(spread.deviation)
    assert str(spread) == {0: "-", 1: "3.00", 3: "2.33 ± 1.53"}[len(values)]


def test_a_row_counts_the_last_epoch_and_the_kept_network(tmp_path):
    only = row(get_study("seeds", "smoke").variants[0], 10)
    assert only.last("train").values == (15, 16)
    assert only.last("val").values == (17, 18)
    assert only.test.values == (11, 12)
    assert only.minutes.mean == 4
    assert only.cells()["test error %*"] == "11.50 ± 0.71"
    write_table([only], tmp_path / "table.csv")
    (values,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert float(values["validation_error"]) == 17.5
    assert float(values["validation_error_deviation"]) == pytest.approx(0.5**0.5, abs=1e-4)
    assert (values["parameters"], values["layers"]) == ("269722", "20")


def test_only_finished_runs_count(smoke, tmp_path):
    study = get_study("seeds", "smoke")
    runs = planned_runs(study, 6, 2)
    assert summarize_runs(runs, tmp_path) == []
    (tmp_path / runs[0].name).symlink_to(smoke.run)
    (found,) = summarize_runs(runs, tmp_path)
    assert found.n == 1
    assert found.test.mean == pytest.approx(100 - smoke.test.top1)
    expected = [100 - line["train_top1"] for line in smoke.history]
    assert found.curves("train")[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "seeds"), [("degradation", 2), ("stem", 2), ("depth", 2), ("learning-curve", 1)]
)
def test_every_figure_is_readable(name, seeds, tmp_path, assert_readable):
    study = STUDIES[name]
    rows = rows_of(study, seeds)
    figure = figure_study(study, rows)
    write_figure(figure, tmp_path / "study.png")
    assert_readable(figure)
    assert ("standard deviation of 2 seeds" in figure._suptitle.get_text()) == (seeds == 2)
    # while the others are still to come
    write_figure(figure := figure_study(study, rows[:1]), tmp_path / "study.png")
    assert_readable(figure)


def test_degradation_shows_plain_left_and_residual_right_training_dashed():
    study = STUDIES["degradation"]
    rows = rows_of(study)
    left, right = figure_study(study, rows).axes
    assert (left.get_title(), right.get_title()) == ("plain networks", "residual networks")
    for axes, shown in ((left, rows[:4]), (right, rows[4:])):
        curves = [line for line in axes.get_lines() if len(line.get_xdata()) == 8]
        assert len(curves) == 2 * len(shown)
        for line, (some, split) in zip(
            curves, ((some, s) for some in shown for s in ("train", "val")), strict=True
        ):
            assert np.allclose(line.get_ydata(), some.curves(split).mean(0))
            assert (line.get_linestyle() == "--") == (split == "train")
        texts = {text.get_text() for text in axes.texts}
        assert texts == {f"{some.architecture.num_layers} layers" for some in shown}
    bands = left.collections
    assert len(bands) == 8


def test_labels_stand_apart(tmp_path):
    rows = [row(v, 10 + i / 50) for i, v in enumerate(STUDIES["degradation"].variants)]
    figure = figure_study(STUDIES["degradation"], rows)
    write_figure(figure, tmp_path / "study.png")
    boxes = [text.get_window_extent() for text in figure.axes[1].texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert box.x1 <= figure.bbox.width
