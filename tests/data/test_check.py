import pytest
from PIL import Image

from resnetlab.data.catalogue import read_collection
from resnetlab.data.check import MISLEADS, check, counts
from resnetlab.data.folder import read_folder


@pytest.fixture
def folder(tmp_path, make, empty_cache):
    """20, 4 and 6 images of each class in train, val and test."""
    whole = make.write_folder(tmp_path / "whole")
    for name in sorted(entry.name for entry in whole.iterdir()):
        images = sorted((whole / name).iterdir())
        for split, some in {
            "train": images[:20],
            "val": images[20:24],
            "test": images[24:],
        }.items():
            (tmp_path / "animals" / split / name).mkdir(parents=True)
            for image in some:
                image.rename(tmp_path / "animals" / split / name / image.name)
    return tmp_path / "animals"


def first(folder):
    return min(folder.iterdir())


def found(folder):
    return {finding.kind: finding for finding in check(read_folder(folder, print))}


def test_nothing_is_found_where_nothing_is_wrong(folder):
    assert {finding.severity for finding in found(folder).values()} <= {"note", "warning"}
    rows = counts(read_folder(folder, print))
    assert rows[0] == {"class": "airplane", "train": 20, "val": 4, "test": 6}


def test_what_would_mislead(folder):
    leaked = first(folder / "train" / "cat")
    (folder / "test" / "cat" / "leak.png").write_bytes(leaked.read_bytes())
    Image.open(first(folder / "train" / "dog")).save(folder / "val" / "dog" / "x.jpg", quality=92)
    wrong = first(folder / "train" / "ship")
    (folder / "train" / "truck" / "wrong.png").write_bytes(wrong.read_bytes())
    (folder / "train" / "bird" / "bad.png").write_bytes(b"none")
    (folder / "train" / "Cat").mkdir()
    make_alone = folder / "train" / "Cat" / "alone.png"
    make_alone.write_bytes(first(folder / "train" / "deer").read_bytes()[:-1] + b"x")
    findings = found(folder)
    misleads = {kind for kind, finding in findings.items() if finding.severity == "misleads"}
    assert misleads >= {
        "unreadable",
        "one image",
        "class names",
        "duplicates across splits",
        "duplicates of two classes",
        "near-duplicates across splits",
    }
    across = findings["duplicates across splits"]
    assert set(across.paths) == {f"train/cat/{leaked.name}", "test/cat/leak.png"}
    assert findings["unreadable"].paths == ("train/bird/bad.png",)
    assert "Cat and cat" in findings["class names"].text
    order = [finding.severity for finding in findings.values()]
    assert order == sorted(order, key=["misleads", "warning", "note"].index)


def test_a_few_leaks_among_many_are_a_warning(folder, monkeypatch):
    (folder / "test" / "cat" / "leak.png").write_bytes(first(folder / "train" / "cat").read_bytes())
    across = found(folder)["duplicates across splits"]
    assert "up to 1.64% of a split" in across.text  # one of 61
    assert across.severity == "misleads"
    monkeypatch.setitem(MISLEADS, "duplicate", 0.02)
    assert found(folder)["duplicates across splits"].severity == "warning"


def test_what_is_odd(folder, tmp_path):
    image = Image.open(first(folder / "train" / "cat"))
    image.resize((200, 32)).save(folder / "train" / "cat" / "long.png")
    image.resize((7, 7)).save(folder / "train" / "cat" / "small.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "train" / "cat" / "turned.jpg", exif=exif)
    image.convert("L").save(folder / "train" / "cat" / "grey.png")
    (folder / "train" / "cat" / "link.png").symlink_to(first(folder / "train" / "dog"))
    for name in sorted((folder / "train" / "frog").iterdir())[1:]:
        name.unlink()
    for name in sorted((folder / "train" / "bird").iterdir())[5:]:
        name.unlink()
    for name in (folder / "val" / "horse").iterdir():
        name.unlink()
    findings = found(folder)
    assert "train/cat/long.png" in findings["long and narrow"].paths
    assert findings["small"].paths == ("train/cat/small.png",)
    assert findings["turned"].paths == ("train/cat/turned.jpg",)
    assert "train/cat/grey.png" in findings["grey"].paths
    assert "bird 5" in findings["tiny class"].text
    assert "val has no images of horse" in findings["missing class"].text
    assert "cat has" in findings["imbalance"].text
    assert "train/cat/link.png" in findings["links"].text


def test_a_set_of_the_catalogue(samples, empty_cache):
    collection = read_collection("cifar10-sample", data_dir=samples)
    assert not [f for f in check(collection) if f.severity == "misleads"]
    assert counts(collection)[3] == {"class": "cat", "train": 30, "val": 0, "test": 10}
