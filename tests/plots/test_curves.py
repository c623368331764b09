import json
import math
from itertools import pairwise

import matplotlib
import pytest
import torch

from resnetlab.plots.confusion import plot_confusion
from resnetlab.plots.curves import plot_curves


def metrics(epochs, validation=True):
    return [
        {
            "epoch": epoch,
            "step": 351 * epoch,
            "lr": 0.1 / epoch,
            "train_loss": 2 / epoch,
            "train_top1": 90 - 50 / epoch,
            "val_loss": 2.1 / epoch if validation else None,
            # The best epoch is the third.
            "val_top1": 88 - (epoch - 3) ** 2 if validation else None,
        }
        for epoch in range(1, epochs + 1)
    ]


def test_curves_show_both_splits_in_units_and_mark_the_best_epoch(
    tmp_path, drawn, assert_png, assert_readable
):
    out = plot_curves(metrics(5), tmp_path / "new" / "curves.png")
    assert_png(out)
    (figure,) = drawn
    loss, accuracy, rate = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy", "Learning rate"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}
    assert loss.get_ylabel() == "cross entropy (nats)"
    assert accuracy.get_ylabel() == "top-1 accuracy (%)"
    lines = {line.get_label(): line for line in accuracy.get_lines()}
    assert list(lines["training"].get_ydata()) == [90 - 50 / e for e in range(1, 6)]
    assert list(lines["validation"].get_ydata()) == [84, 87, 88, 87, 84]
    best = lines["best: 88.00 % in epoch 3"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (3, 88)
    assert rate.get_ylim()[0] == 0
    assert_readable(figure)


@pytest.mark.parametrize("epochs", [1, 2, 13, 16, 200])
def test_no_legend_lies_over_data_or_other_text(epochs, tmp_path, drawn, assert_readable):
    plot_curves(metrics(epochs), tmp_path / "curves.png")
    (figure,) = drawn
    assert_readable(figure)
    for axes in figure.axes[:2]:
        legend = axes.get_legend().get_window_extent()
        assert not legend.overlaps(axes.get_window_extent())
        labels = [axes.xaxis.label, *axes.get_xticklabels()]
        assert not any(legend.overlaps(label.get_window_extent()) for label in labels)
        assert legend.y0 >= 0
        ticks = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert not any(a.overlaps(b) for a, b in pairwise(ticks))


def test_muons_rate_is_drawn_where_it_is_recorded(tmp_path, drawn, assert_readable):
    lines = [line | {"muon_lr": line["lr"] / 3} for line in metrics(5)]
    plot_curves(lines, tmp_path / "curves.png")
    drawn_rates = {line.get_label(): list(line.get_ydata()) for line in drawn[0].axes[2].lines}
    rates = [line["lr"] for line in lines]
    assert drawn_rates == {"lr": rates, "muon_lr": [rate / 3 for rate in rates]}
    assert drawn[0].axes[2].get_legend()
    assert_readable(drawn[0])
    plot_curves(metrics(5), tmp_path / "curves.png")
    assert len(drawn[1].axes[2].lines) == 1
    assert drawn[1].axes[2].get_legend() is None


def test_curves_of_a_run_folder(tmp_path, drawn):
    run = tmp_path / "my-run"
    run.mkdir()
    lines = [json.dumps(line) for line in metrics(40)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert plot_curves(run) == run / "curves.png"
    assert drawn[0]._suptitle.get_text() == "my-run"


@pytest.mark.parametrize("epochs", [1, 4])
def test_curves_without_validation_or_of_one_epoch(epochs, tmp_path, drawn, assert_png):
    plot_curves(metrics(epochs, validation=False), tmp_path / "curves.png")
    for axes in drawn[0].axes[:2]:
        assert [line.get_label() for line in axes.get_lines()] == ["training"]
    plot_curves(metrics(epochs), tmp_path / "curves.png")
    assert_png(tmp_path / "curves.png")


def test_curves_of_nothing_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="no finished epoch"):
        plot_curves([], tmp_path / "curves.png")
    with pytest.raises(ValueError, match="need out"):
        plot_curves(metrics(2))
    with pytest.raises(ValueError, match=r"no metrics\.jsonl"):
        plot_curves(tmp_path)


@pytest.mark.parametrize("name", ["picture.gif.txt", "picture"])
def test_a_file_that_is_no_picture_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"`out` .*: name a file that ends in \.png"):
        plot_curves(metrics(2), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_confusion_shows_shares_of_the_true_class_and_counts(tmp_path, drawn, assert_png):
    confusion = torch.tensor([[8, 2, 0], [0, 1500, 500], [0, 0, 0]])
    out = plot_confusion(confusion, ["cat", "dog", "Ankle boot"], tmp_path / "c.png", title="net")
    assert_png(out)
    axes = drawn[0].axes[0]
    assert drawn[0].get_suptitle() == "net: 75.02 % of 2,010 images right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {
        (0, 0): "80.0\n(8)",
        (1, 0): "20.0\n(2)",
        (1, 1): "75.0\n(1,500)",
        (2, 1): "25.0\n(500)",
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "Ankle boot"]
    assert drawn[0].axes[1].get_ylabel() == "share of the true class (%)"


@pytest.mark.parametrize("classes", [100, 101])
def test_confusion_of_many_classes_has_names_up_to_a_hundred_and_no_numbers(
    classes, tmp_path, drawn
):
    names = [f"class number {i}" for i in range(classes)]
    plot_confusion(torch.eye(classes, dtype=torch.int64), names, tmp_path / "c.png")
    axes = drawn[0].axes[0]
    assert not axes.texts
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert (shown == names) == (classes == 100)
    if classes == 100:
        drawn[0].canvas.draw()
        boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def strange(epochs):
    """What a training that went wrong may leave."""
    lines = metrics(epochs)
    lines[0]["val_loss"], lines[1]["val_loss"] = math.inf, 1e30
    for line in lines:
        line["train_loss"] = math.nan
        line["val_top1"] = line["train_top1"] = 100.0
        line["lr"] = None
    return lines


def test_strange_numbers_are_drawn_as_gaps(tmp_path, drawn, assert_png, assert_readable):
    assert_png(plot_curves(strange(13), tmp_path / "curves.png"))
    assert next(line.get_label() for line in drawn[0].axes[0].get_lines()) == "validation"
    assert_readable(drawn[0])


USERS = {"font.family": "monospace", "axes.facecolor": "black", "text.usetex": True}


def test_the_users_own_style_is_neither_used_nor_changed(tmp_path):
    before = plot_curves(metrics(2), tmp_path / "before.png").read_bytes()
    with matplotlib.rc_context(USERS):
        assert plot_curves(metrics(2), tmp_path / "after.png").read_bytes() == before
        assert matplotlib.rcParams["axes.facecolor"] == "black"


@pytest.mark.parametrize("c", [2, 10, 30])
def test_confusion_of_short_names(c, tmp_path, drawn, assert_readable):
    matrix = 1000 * torch.eye(c, dtype=torch.int64)
    plot_confusion(matrix, [f"c{i}" for i in range(c)], tmp_path / "c.png")
    assert_readable(drawn[0])


@pytest.mark.parametrize("c", [2, 10, 20, 21])
def test_confusion_of_any_number_of_long_names(c, tmp_path, drawn, assert_readable):
    names = [f"{word} \x1b[31m of $x^2$ and {i}" for i, word in enumerate(("猫🐈é_" * 9)[:c])]
    matrix = 1000 * torch.eye(c, dtype=torch.int64)
    plot_confusion(matrix, names, tmp_path / "c.png", title="fashion-mnist-sample, test")
    assert_readable(drawn[0])
    axes = drawn[0].axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len({*shown}) == c
    assert "\x1b" not in "".join(shown)
    assert drawn[0].get_suptitle().startswith("fashion-mnist-sample, test: 100.00 %")


def test_drawing_leaves_pyplot_alone(tmp_path):
    from matplotlib import pyplot

    plot_curves(metrics(2), tmp_path / "curves.png")
    assert pyplot.get_fignums() == []
