import io

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from resnetlab.data import duplicates
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.duplicates import exact_pairs, grouped, near_pairs
from resnetlab.data.folder import read_folder
from resnetlab.data.survey import survey
from resnetlab.errors import UserError


@pytest.fixture
def folder(tmp_path, make, empty_cache):
    """90 images of CIFAR-10, three of which occur again: a copy, as JPEG, brighter."""
    root = make.write_folder(tmp_path / "animals", range(90))
    first, second, third = sorted((root / "cat").iterdir())[:3]
    (root / "dog" / "copy.png").write_bytes(first.read_bytes())
    Image.open(second).save(root / "cat" / "again.jpg", quality=90)
    ImageEnhance.Brightness(Image.open(third)).enhance(1.1).save(root / "cat" / "bright.png")
    return root


def test_what_a_survey_sees(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(next((folder / "ship").iterdir())).save(folder / "ship" / "turned.jpg", exif=exif)
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(folder / "ship" / "g.png")
    (folder / "ship" / "empty.png").touch()
    data = (folder / "cat" / "again.jpg").read_bytes()
    (folder / "ship" / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "ship" / "text.jpg").write_text("<html>")
    collection = read_folder(folder, print)
    found = survey(collection.samples, "animals")
    by_name = {collection.samples.path_of(i).split("/")[1]: i for i in range(len(collection))}
    faults = {name: found.faults[i] for name, i in by_name.items() if found.faults[i]}
    assert faults.keys() == {"empty.png", "truncated.jpg", "text.jpg"}
    assert faults["empty.png"] == "the file is empty"
    assert "truncated" in faults["truncated.jpg"].lower()
    assert faults["text.jpg"] == "it is a web page, not an image; download the image itself"
    assert found.turned[by_name["turned.jpg"]] == 6
    assert found.grey[by_name["g.png"]]
    assert found.grey.sum() <= 3
    for name in ("copy.png", "bright.png", "turned.jpg"):
        data = io.BytesIO(collection.samples.read(by_name[name]))
        upright = Image.open(data)
        upright = upright.transpose(Image.Transpose.ROTATE_270) if name == "turned.jpg" else upright
        theirs = int(str(imagehash.phash(upright)), 16)
        assert found.hashes[by_name[name]] == theirs
    again = survey(collection.samples, "animals")  # out of the cache
    assert (again.faults == found.faults).all()
    assert (again.hashes == found.hashes).all()


def test_duplicates_are_found(folder):
    collection = read_folder(folder, print)
    found = survey(collection.samples, "animals")

    def names(pairs):
        return {frozenset(collection.samples.path_of(i) for i in pair) for pair in pairs.tolist()}

    first, second, third = (path.name for path in sorted((folder / "cat").glob("0*.png"))[:3])
    copies = frozenset({f"cat/{first}", "dog/copy.png"})
    assert names(exact_pairs(found)) == {copies}
    wanted = {frozenset({f"cat/{second}", "cat/again.jpg"})}
    wanted |= {copies, frozenset({f"cat/{third}", "cat/bright.png"})}
    assert names(near_pairs(found)) == wanted


def test_duplicates_stay_on_one_side(folder):
    for seed in range(6):
        parts = [
            load_dataset(folder, s, split_seed=seed, test_size=0.3, val_size=0.3)
            for s in ("train", "val", "test")
        ]
        paths = [{p.whole.samples.path_of(i) for i in p.indices.tolist()} for p in parts]
        first = min((folder / "cat").glob("0*.png")).name
        (home,) = (part for part in paths if "dog/copy.png" in part)
        assert f"cat/{first}" in home


def test_images_that_cannot_be_read(folder):
    (folder / "cat" / "bad.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"1 of 94 images cannot be read \(cat/bad.png: not an im"):
        load_dataset(folder, "train")
    said = []
    load_dataset(folder, "train", on_bad_image="skip", report=said.append)
    assert said == [f"{folder}: left out cat/bad.png (not an image, or of an unknown format)"]
    for number in range(11):
        (folder / "cat" / f"bad{number}.png").write_bytes(b"none")
    with pytest.raises(UserError, match="12 of 105 images cannot be read, more than the 10"):
        load_dataset(folder, "train", on_bad_image="skip")


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30, unique=True), st.integers(0, 2**12 - 1))
def test_close_hashes_are_all_found(numbers, flips):
    numbers += [n ^ (flips << 20) for n in numbers]  # others at a known distance
    hashes = np.array(sorted({*numbers}), np.uint64)
    pairs = {tuple(pair) for pair in duplicates._close_hashes(hashes).tolist()}
    assert pairs == {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if int(hashes[i] ^ hashes[j]).bit_count() <= duplicates.MOST_BITS
    }


def test_chains_are_one_group():
    pairs, groups = np.array([[0, 1], [1, 2], [4, 5]]), np.array([7, 8, 9, 7, 5, 6])
    numbers = grouped(6, pairs, groups)
    assert len({*numbers[[0, 1, 2, 3]].tolist()}) == 1
    assert numbers[4] == numbers[5] != numbers[0]
