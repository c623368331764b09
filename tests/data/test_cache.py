"""Decoded images are kept, found again, and never trusted blindly."""

import os
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnetlab.data.cache import Cache, clean_pixels, disk_usage
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.crops import Box, everything, part_of
from resnetlab.data.encoded import fingerprint

VIEW = {"view": "uncropped", "channels": 3}
SLOT = 3 * 20 * 20
SHAPES = st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=1, max_size=6)


def corner(height, width):
    return Box(height // 3, width // 2, height - height // 3, width - width // 2)


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=SHAPES, where=st.sampled_from(["disk", "memory"]))
def test_what_is_put_is_got_again(tmp_path, shapes, where):
    clean_pixels(tmp_path)
    cache = Cache("abc", tmp_path / "pixels" if where == "disk" else None)
    store = cache.store(VIEW, n=len(shapes), slot=SLOT)
    images = [image(*shape, seed=i) for i, shape in enumerate(shapes)]
    for index in reversed(range(len(images))):
        assert store.get(index) is None
        store.put(index, images[index])
    stores = [store]
    if where == "disk":  # another process would open it so
        stores.append(Cache("abc", tmp_path / "pixels").store(VIEW, n=len(shapes), slot=SLOT))
    for each in stores:
        for index, wanted in enumerate(images):
            for crop in (corner, everything, corner):  # read whole the first time, then in rows
                found = each.get(index, crop)
                if where == "disk" and wanted.nbytes > SLOT:
                    assert found is None
                else:
                    assert np.array_equal(found, part_of(wanted, crop))


def test_a_changed_byte_is_noticed_and_written_anew(tmp_path):
    cache = Cache("abc", tmp_path / "pixels")
    cache.store(VIEW, n=3, slot=SLOT).put(1, image(10, 12))
    (pixels,) = tmp_path.rglob("pixels.bin")
    with pixels.open("r+b") as file:
        file.seek(SLOT + 50)
        file.write(bytes([255 - image(10, 12).flatten()[50]]))
    store = Cache("abc", tmp_path / "pixels").store(VIEW, n=3, slot=SLOT)
    assert store.get(1, corner) is None
    assert store.get(1) is None
    store.put(1, image(10, 12))
    assert np.array_equal(
        Cache("abc", tmp_path / "pixels").store(VIEW, n=3, slot=SLOT).get(1), image(10, 12)
    )


def test_rows_that_are_lost_meanwhile_are_not_there(tmp_path):
    store = Cache("abc", tmp_path / "pixels").store(VIEW, n=2, slot=SLOT)
    store.put(1, image(10, 12))
    (pixels,) = tmp_path.rglob("pixels.bin")
    os.truncate(pixels, SLOT + 3 * 12 * 7)
    assert np.array_equal(store.get(1, lambda *_: Box(2, 3, 5, 6)), image(10, 12)[2:7, 3:9])
    assert store.get(1, lambda *_: Box(2, 3, 6, 6)) is None
    assert store.get(1) is None


@pytest.mark.parametrize("damage", [b"", b"\xff" * 17, b"\xff" * 48])
def test_a_damaged_index_is_as_if_nothing_were_there(tmp_path, damage):
    Cache("abc", tmp_path / "pixels").store(VIEW, n=2, slot=SLOT).put(0, image(9, 9))
    (index,) = tmp_path.rglob("index.bin")
    index.write_bytes(damage)
    assert Cache("abc", tmp_path / "pixels").store(VIEW, n=2, slot=SLOT).get(0) is None


def test_other_sources_and_views_are_kept_apart(tmp_path):
    Cache("abc", tmp_path / "pixels").store(VIEW, n=1, slot=SLOT).put(0, image(5, 5))
    assert Cache("abd", tmp_path / "pixels").store(VIEW, n=1, slot=SLOT).get(0) is None
    assert (
        Cache("abc", tmp_path / "pixels").store(VIEW | {"size": 3}, n=1, slot=SLOT).get(0) is None
    )


def test_a_full_disk_is_said_once_and_the_rest_is_not_kept(tmp_path):
    said = []
    store = Cache("abc", tmp_path / "pixels", said.append).store(VIEW, n=9, slot=SLOT)
    store.put(0, image(20, 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * SLOT + 100, before[1]))
    try:
        for index in range(1, 9):
            store.put(index, image(20, 20, seed=index))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(said) == 1
    assert "cannot write to the cache" in said[0]
    assert str(tmp_path) in said[0]
    assert np.array_equal(store.get(1), image(20, 20, seed=1))
    assert store.get(2) is None


def test_cleaning_removes_caches_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    Cache("abc", tmp_path / "pixels").store(VIEW, n=1, slot=SLOT).put(0, image(20, 20))
    (tmp_path / "pixels" / "abc" / "notes.txt").write_text("keep")
    used = disk_usage(tmp_path)
    freed = clean_pixels(tmp_path)
    assert 1200 <= freed < used
    assert sorted(file.name for file in tmp_path.rglob("*.*")) == ["mine.txt", "notes.txt"]
    assert clean_pixels(tmp_path / "nowhere") == 0


@pytest.fixture
def folder(tmp_path, make):
    return make.write_folder(tmp_path / "animals", range(40))


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_images_are_those_of_no_cache_and_are_decoded_once(folder, tmp_path, where, monkeypatch):
    plain = load_dataset(folder, "train").whole
    plain = plain.prepared(replace(plain.preprocessing, size=24, resize=28))
    indices = torch.tensor([3, 11, 3, 0])
    cache = Cache(fingerprint(plain), tmp_path / "pixels" if where == "disk" else None)
    kept = replace(plain, cache=cache)
    crops = [everything, corner] * 2

    def parts(data):
        return [
            data.uncropped(i, 20, crop) for i, crop in zip(indices.tolist(), crops, strict=True)
        ]

    wanted = plain.batch(indices), parts(plain)
    for again in (False, True):
        if again:
            for path in folder.rglob("*.png"):
                path.unlink()
        images, labels = kept.batch(indices)
        assert torch.equal(images, wanted[0][0])
        assert torch.equal(labels, wanted[0][1])
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert all(map(torch.equal, parts(kept), wanted[1]))
    with pytest.raises(ValueError, match="cannot read"):
        kept.batch(torch.tensor([5]))


def test_reading_again_takes_no_memory_that_stays(tmp_path):
    side, n = 400, 60
    store = Cache("abc", tmp_path / "pixels").store(VIEW, n=n, slot=3 * side * side)
    for index in range(n):
        store.put(index, image(side, side, seed=index))

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    store.get(0)
    before = resident()
    for index in range(n):
        store.get(index)
    assert resident() - before < 10 * 3 * side * side
