"""``resnetlab data``."""

import json

import numpy as np
import pytest
from PIL import Image

from resnetlab.data.cache import Cache
from resnetlab.data.catalogue import CATALOGUE
from resnetlab.data.sources import read_split
from resnetlab.training.job import train


def test_data(resnetlab, samples):
    words = ("cifar10-sample", "--data-dir", samples)
    assert resnetlab("data", "fetch", *words).out == f"{samples / 'cifar10-sample'}\n"
    values = json.loads(resnetlab("data", "stats", *words, "--json").out)
    assert (values["n"], len(values["mean"]), len(values["std"])) == (300, 3, 3)
    assert values["classes"]["cat"] == 30
    assert f"mean {values['mean'][0]:.8f}" in resnetlab("data", "stats", *words).out


@pytest.fixture
def photos(tmp_path, samples, empty_cache):
    """40 images of three classes, a folder for each."""
    source = CATALOGUE["cifar10-sample"]
    images, labels = read_split(source.source, "train", samples / "cifar10-sample")
    for index in [i for i in range(150) if labels[i] < 3]:
        folder = tmp_path / "photos" / source.classes[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index]).save(folder / f"{index:03}.png")
    return tmp_path / "photos"


def test_own_images_are_shown(resnetlab, photos, tmp_path, assert_png, drawn):
    for name, words in {"plain.png": (), "augmented.png": ("--augmented",)}.items():
        answer = resnetlab("data", "show", photos, "--out", tmp_path / name, *words)
        assert answer.code == 0, answer.err
        assert_png(tmp_path / name)
    titles = [figure._suptitle.get_text() for figure in drawn]
    assert titles[0].startswith("photos, train+val: ")
    assert "as cifar10-quick sees it, one image of each class in 8 epochs" in titles[1]


def test_a_check_says_what_to_do(resnetlab, photos, tmp_path, assert_png):
    assert resnetlab("data", "check", photos).code == 0
    (photos / "bird" / "bad.png").write_bytes(b"none")
    sheet = tmp_path / "sheet.png"
    answer = resnetlab("data", "check", photos, "--sheet", sheet)
    assert answer.code == 1
    (line,) = [line for line in answer.out.splitlines() if line.startswith("misleads")]
    assert "1 image cannot be read (bird/bad.png: not an image" in line
    assert line.endswith("repair or remove them, or train with --on-bad-image skip.")
    assert_png(sheet)
    values = json.loads(resnetlab("data", "check", photos, "--json").out)
    assert values["misleads"] is True
    assert values["findings"][0]["images"] == ["bird/bad.png"]


def test_a_check_with_a_run_finds_wrong_labels(resnetlab, photos, tmp_path):
    """Of images that it was trained on too: two of 40 were moved to another class."""
    for wrong in ("bird", "automobile"):
        first = min((photos / "airplane").iterdir())
        first.rename(photos / wrong / f"x-{first.name}")
    recipe = {"pretrained": "resnet20-cifar10", "model_overrides": {}, "freeze": "backbone"}
    train("smoke", dataset=photos, val_size=6, out=tmp_path / "run", execution="plain", **recipe)
    answer = resnetlab("data", "check", photos, "--run", tmp_path / "run", "--json")
    findings = json.loads(answer.out)["findings"]
    (found,) = [each for each in findings if each["kind"] == "suspicious labels"]
    moved = {str(path.relative_to(photos)) for path in photos.glob("*/x-*")}
    assert moved <= set(found["images"])
    assert len(found["images"]) <= 4


def test_clean_says_what_it_has_removed_and_from_where(resnetlab, tmp_path, empty_cache):
    for folder in (empty_cache, tmp_path):
        store = Cache("abc", folder / "pixels").store({"channels": 3}, n=1, slot=3_000_000)
        store.put(0, np.zeros((1000, 1000, 3), np.uint8))
    answer = resnetlab("data", "clean")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"removed 3 MB of decoded images from {empty_cache / 'pixels'}\n"
    assert not (empty_cache / "pixels").exists()
    answer = resnetlab("data", "clean", "--cache", tmp_path)
    assert answer.out == f"removed 3 MB of decoded images from {tmp_path / 'pixels'}\n"
