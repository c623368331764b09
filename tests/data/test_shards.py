import io
import json
import tarfile

import pytest
import torch
import webdataset
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from webdataset import tariterators

from resnetlab.data import shards
from resnetlab.data.catalogue import load_dataset
from resnetlab.errors import UserError


@pytest.fixture
def written(tmp_path, make, empty_cache):
    """Three shards for training, one for testing, as the package webdataset writes them."""
    arrays = make.sample_arrays("cifar10-sample")
    folder = tmp_path / "shards"
    folder.mkdir()
    for name, indices in {
        "train-000": (0, 40),
        "train-001": (40, 80),
        "test-000": (80, 120),
    }.items():
        with webdataset.TarWriter(str(folder / f"{name}.tar")) as sink:
            for index in range(*indices):
                image = Image.fromarray(arrays["train_images"][index])
                label = int(arrays["train_labels"][index])
                sink.write({"__key__": f"a.b/{index:06}", "png": image, "cls": label, "pyd": b"no"})
    return folder


def read_by_webdataset(path):
    with path.open("rb") as file:
        members = tariterators.tar_file_expander([{"url": str(path), "stream": file}])
        return list(tariterators.group_by_keys(members))


def test_images_and_labels_are_those_of_webdataset(written):
    dataset = load_dataset(
        f"{written}/{{train,test}}-{{000..001}}.tar".replace("{train,test}", "train"),
        "train+val",
        test_size=0,
    )
    theirs = [
        sample for i in range(2) for sample in read_by_webdataset(written / f"train-00{i}.tar")
    ]
    images, labels = dataset.batch(torch.arange(len(dataset)))
    assert [dataset.classes[label] for label in labels] == [s["cls"].decode() for s in theirs]
    pixels = [pil_to_tensor(Image.open(io.BytesIO(sample["png"]))) for sample in theirs]
    assert torch.equal(images, torch.stack(pixels))
    assert dataset.whole.samples.path_of(41) == "train-001.tar/a.b/000041.png"


def test_splits_are_told_by_the_names_and_classes_by_a_list(written, make):
    names = [f"kind {i}" for i in range(10)]
    (written / "classes.txt").write_text("\n".join(names))
    for pattern in (written, written / "*.tar"):
        train, test = (load_dataset(pattern, split, val_size=0) for split in ("train", "test"))
        assert (len(train), len(test)) == (80, 40)
        assert train.classes == test.classes == tuple(names)
        labels = make.sample_arrays("cifar10-sample")["train_labels"]
        assert test.labels.tolist() == labels[80:120].tolist()


def test_the_index_is_kept_until_the_shard_changes(written, monkeypatch):
    before = load_dataset(written, "train").labels
    with monkeypatch.context() as context:
        context.setattr(shards, "_read_index", None)
        assert torch.equal(load_dataset(written, "train").labels, before)
    (written / "train-001.tar").write_bytes((written / "test-000.tar").read_bytes())
    assert not torch.equal(load_dataset(written, "train").labels, before)


def member(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.png": b"x"}, "1 has no label"),
        ({"1.png": b"x", "1.cls": b"3 4"}, "1 has 2 labels. An image has one label here"),
        ({"1.png": b"x", "1.json": b'{"label": ["a", "b"]}'}, "1 has 2 labels"),
        ({"1.png": b"x", "1.json": b"{"}, "its .json is damaged"),
        ({"1.png": b"x", "1.jpg": b"x", "1.cls": b"1"}, "the sample 1 has 2 images"),
        ({"1.txt": b"x"}, "the shards hold no images"),
    ],
)
def test_shards_that_are_refused(members, message, tmp_path, empty_cache):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in members.items():
            member(archive, name, data)
    with pytest.raises(UserError, match=message):
        shards.read_shards(str(tmp_path / "a.tar"))


def test_labels_in_json_and_text(tmp_path, empty_cache):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in {
            "1.seg.png": b"x",
            "1.json": json.dumps({"label": "red fox"}).encode(),
            "2.jpg": b"y",
            "2.txt": "größer".encode(),
        }.items():
            member(archive, name, data)
    collection = shards.read_shards(str(tmp_path / "a.tar"))
    assert [collection.names[label] for label in collection.labels] == ["red fox", "größer"]
    assert [collection.samples.read(index) for index in range(2)] == [b"x", b"y"]


def test_missing_and_damaged_shards(written, empty_cache):
    with pytest.raises(UserError, match=r"there is no file .*train-002.tar"):
        shards.read_shards(f"{written}/train-{{000..002}}.tar")
    whole = (written / "train-000.tar").read_bytes()
    (written / "train-000.tar").write_bytes(whole[:5000])
    with pytest.raises(UserError, match=r"train-000\.tar cannot be read as a tar file"):
        shards.read_shards(str(written / "train-000.tar"))


def test_patterns():
    assert shards.expand("a/t-{08..11}.tar") == [f"a/t-{i}.tar" for i in ("08", "09", "10", "11")]
    assert shards.expand("{x,y}-{0..1}.tar") == ["x-0.tar", "x-1.tar", "y-0.tar", "y-1.tar"]
    assert shards.expand("none-*.tar") == ["none-*.tar"]
