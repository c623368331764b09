"""Heat maps, filters, responses, and the curves of several runs."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from resnetlab.errors import UserError
from resnetlab.evaluation.responses import Response
from resnetlab.models.resnet import create_model
from resnetlab.plots.curves import plot_curves, run_labels
from resnetlab.plots.heatmaps import explain
from resnetlab.plots.images import visualize
from resnetlab.plots.inside import figure_filters, figure_responses, inspect
from resnetlab.preprocessing import Preprocessing
from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import Checkpoint


@pytest.fixture
def pictures(tmp_path):
    for name, size in (("a rather long name of a picture.png", (40, 30)), ("b.png", (32, 32))):
        Image.linear_gradient("L").resize(size).convert("RGB").save(tmp_path / name)
    return tmp_path


def test_heat_maps_of_each_image_and_class(pictures, drawn, assert_png, assert_readable):
    assert_png(explain("resnet20-cifar10", pictures, out=pictures / "out.png", top=2))
    (figure,) = drawn
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6
    assert titles[0].startswith("a rather lon")
    assert titles[1].endswith(" %")
    assert "layer3" in figure._suptitle.get_text()
    assert_readable(figure)


def test_heat_maps_of_one_channel_and_of_an_earlier_stage(pictures, drawn, assert_readable):
    torch.manual_seed(0)
    model = create_model("resnet18", in_channels=1, num_classes=3)
    network = Checkpoint(
        architecture=model.architecture,
        weights=model.state_dict(),
        classes=("Ankle boot", "Bag", "T-shirt/top of many colours"),
        preprocessing=Preprocessing(mean=(0.3,), std=(0.3,), size=28),
    )
    explain(network, pictures / "b.png", classes=["bag"], out=pictures / "out.svg")
    explain(network, pictures / "b.png", classes=["bag"], out=pictures / "out.png")
    words = drawn[1]._supxlabel.get_text()
    assert "the maps of layer4 are of 1 x 1, without places; these are of layer3" in words
    assert_readable(drawn[1])


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (64, 1, 7, 7), (300, 24, 2, 2), (1, 3, 3, 3)])
def test_filters_of_any_shape(shape, tmp_path):
    figure = figure_filters(torch.randn(shape), title="net")
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == min(shape[0], 256)
    assert f"filters of {shape[2]} x {shape[3]}" in figure._suptitle.get_text()


def test_responses_by_depth_and_by_size():
    made = [Response(name=f"l{i}", deviation=d, ends=i % 2 == 1) for i, d in enumerate((3, 1, 2))]
    by_depth, by_size = figure_responses({"net": made, "other": made[:2]}).axes
    assert list(by_depth.lines[0].get_ydata()) == [3, 1, 2]
    assert list(by_size.lines[0].get_ydata()) == [3, 2, 1]
    filled = by_depth.collections[0].get_offsets()
    assert filled.tolist() == [[2.0, 1.0]]


def test_inspect_draws_both(tmp_path, samples, smoke, drawn, assert_png, assert_readable):
    data = {"dataset": "cifar10-sample", "data_dir": samples, "images": 8}
    out = tmp_path / "responses.png"
    assert_png(inspect([smoke.run, "resnet20-cifar10"], out=out, **data))
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["smoke", "resnet20-cifar10"]
    assert_readable(drawn[0])
    assert_png(inspect(smoke.run, show="filters", out=tmp_path / "filters.png"))
    with pytest.raises(UserError, match="`show` filters draws one network; name one"):
        inspect([smoke.run, smoke.run], show="filters", out=out)
    with pytest.raises(UserError, match="`images` must be at least 1, not 0"):
        inspect(smoke.run, images=0, out=out)


@pytest.fixture
def runs(tmp_path, smoke):
    """Folders whose recipes differ in the model and the seed."""
    folders = []
    for name, changes in {"a": {}, "b": {"seed": 3}, "c": {"model": "resnet32"}}.items():
        run = Run(tmp_path / name)
        run.path.mkdir()
        recipe = Run(smoke.run).recipe
        run.write_recipe(replace(recipe, **changes))
        run.write_metrics(smoke.history)
        folders.append(run.path)
    return folders


def test_several_runs_are_named_by_what_differs(runs, tmp_path, drawn, assert_png, assert_readable):
    assert_png(plot_curves(runs, tmp_path / "all.png"))
    (figure,) = drawn
    model = Run(runs[0]).recipe.model
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    wanted = [(model, 0), (model, 3), ("resnet32", 0)]
    assert [{*label.split(", ")} for label in labels] == [
        {f"model {name}", f"seed {seed}"} for name, seed in wanted
    ]
    assert len(figure.axes[0].lines) == 6
    assert_readable(figure)
    with pytest.raises(UserError, match="several runs are drawn to one file; name it: `out`"):
        plot_curves(runs)


def test_of_very_different_recipes_a_few_fields_are_named(runs):
    for run, recipe in zip(runs, ("cifar10-quick", "cifar10-paper", "cifar10-paper"), strict=True):
        Run(run).write_recipe(get_recipe(recipe, seed=runs.index(run)))
    found = ["recipe cifar10-quick, seed 0", *(f"recipe cifar10-paper, seed {n}" for n in (1, 2))]
    assert run_labels([Run(run) for run in runs]) == found


def test_equal_recipes_are_named_by_their_folders(runs, tmp_path, drawn):
    Run(runs[1]).write_recipe(Run(runs[0]).recipe)
    plot_curves(runs[:2], tmp_path / "all.png")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["a", "b"]


def test_the_most_confident_mistakes_come_first(smoke, tmp_path, drawn):
    visualize(smoke.run, n=6, only="wrong", order="confident", out=tmp_path / "worst.png")
    shown = [int(axes.get_title().split()[-2]) for axes in drawn[0].axes]
    assert shown == sorted(shown, reverse=True)
    assert all(axes.get_title().startswith("✗") for axes in drawn[0].axes)
    visualize(smoke.run, n=6, only="wrong", out=tmp_path / "some.png")
    others = [int(axes.get_title().split()[-2]) for axes in drawn[1].axes]
    assert min(shown) >= max(min(others), 0)
    assert shown[0] >= max(others)
    with pytest.raises(UserError, match="`order` must be one of random, confident, not 'best'"):
        visualize(smoke.run, order="best", out=tmp_path / "x.png")  # pyright: ignore[reportArgumentType]


def test_commands(resnetlab, pictures, smoke, samples, tmp_path, runs):
    data = ("--dataset", "cifar10-sample", "--data-dir", samples)
    for words in (
        ("explain", smoke.run, pictures / "b.png", "--top", 1),
        ("explain", smoke.run, pictures / "b.png", "--class", "cat", "dog", "--stage", "layer1"),
        ("inspect", smoke.run, "--images", 4, *data),
        ("inspect", "resnet20-cifar10", "--show", "filters"),
        ("plot", *runs),
    ):
        out = tmp_path / "picture.svg"
        answer = resnetlab(*words, "--out", out)
        assert (answer.code, answer.out) == (0, f"{out}\n"), answer.err
        assert "<svg" in out.read_text()
        out.unlink()
    kept = json.loads((smoke.run / "evaluation.json").read_text())
    assert kept["format"] == 1
