"""Photographs from end to end: where their pixels are kept changes no bit of a training."""

import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.data.cache import FOLDER, disk_usage
from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.training import pixels
from resnetlab.training.job import resume
from resnetlab.training.plan import load_data


@pytest.fixture
def photographs(tmp_path):
    """Three classes of 16 JPEG files each, of 80 x 60 pixels."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("brown", "grey", "green")):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for number in range(16):
            noise = random.integers(0, 120, (60, 80, 3), np.uint8)
            noise[..., label] += 100
            Image.fromarray(noise).save(tmp_path / "photographs" / name / f"{number:02}.jpg")
    return tmp_path / "photographs"


@pytest.fixture
def recipe(photographs):
    changes = {"resized_crop": 0.3, "image_size": 16, "val_size": 9, "test_size": 6}
    return get_recipe("smoke", dataset=str(photographs), **changes)


def test_any_cache_and_a_resumed_run_give_the_same_bits(tiny, recipe, tmp_path, empty_cache):
    changes = {name: getattr(recipe, name) for name in ("dataset", "image_size", "val_size")}
    changes |= {"test_size": 6, "data_dir": None, "batch_size": 8, "resized_crop": 0.3}
    changes |= {"color_jitter": 0.4, "auto_augment": "rand", "random_erasing": 0.5, "mixup": 0.2}
    unbroken = tiny.contents(tiny.train("unbroken", cache="none", **changes).run)
    first = tiny.interrupted("broken", cache=str(tmp_path / "kept"), **changes)
    assert disk_usage(tmp_path / "kept") > 0
    with tiny.signal_after(2, 3), pytest.raises(KeyboardInterrupt):
        resume(first, cache="memory")
    resume(first, cache=str(tmp_path / "kept"))
    found = tiny.contents(first)
    assert Run(first).recipe.cache == str(tmp_path / "kept")
    for part in unbroken:
        if part in ("last", "best line"):  # which hold the recipe, and so the cache
            continue
        assert found[part] == unbroken[part], part
    assert found["last"]["model"] == unbroken["last"]["model"]
    assert not (empty_cache / FOLDER).exists()


def views(train, n):
    return [train.uncropped(index, 24) for index in range(n)]


def test_by_default_pixels_lie_in_the_cache_of_data_sets(recipe, empty_cache):
    said = []
    train, val = load_data(recipe, said.append)
    assert (
        said
        == [
            f"decoded images are kept in {empty_cache / 'pixels'}: about 83.2 kB more; "
            "`resnetlab data clean` removes them"
        ]
        or "kB more" in said[0]
    )
    views(train, 5)
    val.batch(torch.arange(3))
    assert disk_usage(empty_cache) > 5 * 24 * 32 * 3
    again, _ = load_data(recipe, said.append)
    assert all(map(torch.equal, views(again, 5), views(train, 5)))


def test_another_file_is_another_source(recipe, photographs, empty_cache):
    train, _ = load_data(recipe, lambda line: None)
    before = views(train, 3)
    for path in photographs.rglob("*.jpg"):
        with Image.open(path) as image:
            turned = image.rotate(180)
        turned.save(path)
    train, _ = load_data(recipe, lambda line: None)
    assert not any(map(torch.equal, views(train, 3), before))


@pytest.mark.parametrize(("where", "sort"), [("memory", "memory"), (None, "disk")])
def test_without_room_images_are_decoded_in_every_epoch(
    recipe, empty_cache, monkeypatch, where, sort
):
    if sort == "memory":
        monkeypatch.setattr(pixels, "available_memory", lambda: 50_000)
    else:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 950_000, 50_000))
    said = []
    train, _ = load_data(replace(recipe, cache=where), said.append)
    assert len(said) == 1
    assert "where 50 kB are free: they are decoded anew in every epoch" in said[0]
    assert train.whole.cache is None if hasattr(train.whole, "cache") else True
    assert len(views(train, 4)) == 4
    assert disk_usage(empty_cache / FOLDER) == 0


def test_small_sets_in_memory_need_no_cache(samples):
    said = []
    load_data(get_recipe("smoke", data_dir=str(samples)), said.append)
    assert said == []
