"""A path that a notebook shows as a picture."""

import pickle
from pathlib import Path

import pytest

from resnetlab.plots.curves import plot_curves
from resnetlab.plots.picture import Picture

METRICS = [{"epoch": 1, "lr": 0.1, "train_loss": 1.0, "train_top1": 50.0}]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_it_is_a_path_and_shows_what_a_notebook_can_show(suffix, tmp_path):
    path = tmp_path / f"curves{suffix}"
    picture = plot_curves(METRICS, path)
    assert isinstance(picture, Path)
    assert (picture, hash(picture), str(picture)) == (path, hash(path), str(path))
    assert picture.parent == tmp_path
    assert pickle.loads(pickle.dumps(picture)) == path
    shown = {"png": picture._repr_png_(), "svg": picture._repr_svg_()}
    content = {".png": path.read_bytes(), ".svg": path.read_bytes().decode("utf-8", "replace")}
    assert shown == {kind: content[suffix] if suffix == f".{kind}" else None for kind in shown}


def test_a_picture_that_is_gone_is_a_path(tmp_path):
    picture = Picture(tmp_path / "curves.png")
    assert picture._repr_png_() is None
    assert picture.with_suffix(".svg")._repr_svg_() is None
    assert repr(picture) == f"Picture('{tmp_path}/curves.png')"
