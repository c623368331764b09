"""The diagram of a network: every layer and every shortcut of it is there."""

from collections import Counter

import pytest
from torch import nn

from resnetlab.errors import UserError
from resnetlab.models.architecture import get_architecture
from resnetlab.models.summary import on_meta
from resnetlab.plots.architecture import figure_architecture, plot_architecture


def drawn_shortcuts(figure):
    gids = [line.get_gid() for line in figure.axes[0].get_lines()]
    return Counter(gid.split("-")[1] for gid in gids if gid)


@pytest.mark.parametrize(
    ("name", "changes", "solid", "dashed"),
    [
        ("resnet20", {}, 7, 2),
        ("resnet34", {}, 13, 3),
        ("resnet50", {}, 12, 4),
        ("resnet20", {"shortcut": "C"}, 0, 9),
        ("plain20", {}, 0, 0),
        ("resnet20", {"activation": "pre", "in_channels": 1}, 7, 2),
        ("fast_resnet11", {}, 3, 0),
        ("resnet18d", {}, 5, 3),
    ],
)
def test_every_layer_and_shortcut_is_drawn(name, changes, solid, dashed):
    architecture = get_architecture(name, **changes)
    figure = figure_architecture(architecture, title=name)
    shortcuts = drawn_shortcuts(figure)
    assert (shortcuts["solid"], shortcuts["dashed"]) == (solid, dashed)
    convolutions = [
        module
        for path, module in on_meta(architecture).named_modules()
        if isinstance(module, nn.Conv2d) and "downsample" not in path
    ]
    texts = [text.get_text() for text in figure.axes[0].texts if " conv, " in text.get_text()]
    wanted = Counter((conv.kernel_size[0], conv.out_channels) for conv in convolutions)
    found = Counter((int(text[0]), int(text.split("conv, ")[1].split(",")[0])) for text in texts)
    assert found == wanted
    assert f"{architecture.num_layers} layers" in figure._suptitle.get_text()


def test_long_stages_are_shortened_in_words():
    texts = [
        text.get_text() for text in figure_architecture(get_architecture("resnet152")).axes[0].texts
    ]
    assert "31 more\nblocks like this" in texts
    assert "1024 x 14 x 14" in " ".join(texts)


@pytest.mark.parametrize("name", ["resnet18", "resnet110"])
def test_a_diagram_is_readable(name, tmp_path, assert_png):
    architecture = get_architecture(name)
    assert_png(plot_architecture(architecture, tmp_path / "net.png", title=name))
    figure = figure_architecture(architecture)
    figure.savefig(tmp_path / "net.png")
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UserError, match="too small"):
        figure_architecture(get_architecture("resnet18"), 16)


def test_show_draws_it(resnetlab, tmp_path):
    out = tmp_path / "net.svg"
    answer = resnetlab("show", "resnet20", "--diagram", out)
    assert (answer.code, answer.err) == (0, f"{out}\n")
    assert "layer3" in answer.out
    assert "<svg" in out.read_text()
    assert "--diagram" in resnetlab("show", "resnet20", "--diagram", tmp_path / "net.doc").err
