import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from resnetlab.data.catalogue import has_split, load_dataset
from resnetlab.data.collection import UNDIVIDED
from resnetlab.data.encoded import fingerprint
from resnetlab.data.folder import read_folder
from resnetlab.errors import UserError


def everything(dataset):
    return dataset.batch(torch.arange(len(dataset)))


@pytest.fixture
def folder(tmp_path, make, empty_cache):
    """300 real images as PNG files, a folder for each class."""
    return make.write_folder(tmp_path / "animals")


@pytest.fixture
def split_folder(tmp_path, make, empty_cache):
    """The same in train, Valid and test: 20, 4 and 6 of each class."""
    whole = make.write_folder(tmp_path / "whole")
    for name in sorted(entry.name for entry in whole.iterdir()):
        images = sorted((whole / name).iterdir())
        for split, some in {
            "train": images[:20],
            "Valid": images[20:24],
            "test": images[24:],
        }.items():
            (tmp_path / "animals" / split / name).mkdir(parents=True)
            for image in some:
                image.rename(tmp_path / "animals" / split / name / image.name)
    return tmp_path / "animals"


def test_images_and_labels_are_those_of_torchvisions_image_folder(split_folder):
    for split, name in {"train": "train", "val": "Valid", "test": "test"}.items():
        ours, theirs = load_dataset(split_folder, split), ImageFolder(split_folder / name)
        images, labels = everything(ours)
        assert list(ours.classes) == theirs.classes
        assert labels.tolist() == theirs.targets == ours.labels.tolist()
        assert torch.equal(images, torch.stack([pil_to_tensor(image) for image, _ in theirs]))
        assert ours.preprocessing.size == 32
        assert (ours.name, ours.split) == ("animals", split)


def test_a_folder_of_classes_is_divided_with_a_seed(folder):
    parts = {split: load_dataset(folder, split) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [243, 27, 30]
    paths = {
        split: {part.whole.samples.path_of(i) for i in part.indices.tolist()}
        for split, part in parts.items()
    }
    assert len(set.union(*paths.values())) == 300
    assert parts["test"].labels.bincount().tolist() == [3] * 10
    again = load_dataset(folder, "val", split_seed=0)
    assert torch.equal(again.indices, parts["val"].indices)
    other = load_dataset(folder, "val", split_seed=1)
    assert not torch.equal(other.indices, parts["val"].indices)
    assert len(load_dataset(folder, "test", test_size=100)) == 100
    assert not has_split(folder, "test", test_size=0)
    assert (read_folder(folder, print).splits == UNDIVIDED).all()


def test_a_class_that_is_missing_in_val_shifts_nothing(split_folder):
    for image in (split_folder / "Valid" / "bird").iterdir():
        image.unlink()
    train, val = (load_dataset(split_folder, split) for split in ("train", "val"))
    assert val.classes == train.classes
    assert val.labels.bincount(minlength=10)[2] == 0
    for index, label in zip(val.indices.tolist(), val.labels, strict=True):
        assert f"/{val.classes[label]}/" in val.whole.samples.path_of(index)


def test_large_images_get_the_usual_size(tmp_path, empty_cache):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pixels = np.full((300, 400, 3), 40 if name == "a" else 90, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "1.jpg")
    dataset = load_dataset(tmp_path, "train+val", test_size=0)
    assert dataset.preprocessing.size == 224
    assert everything(dataset)[0].shape == (2, 3, 224, 224)
    assert everything(dataset)[0][:, 0, 0, 0].tolist() == [40, 90]


def test_grey_images_have_one_channel(tmp_path, empty_cache):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((28, 28), 7, np.uint8)).save(tmp_path / name / "1.png")
    dataset = load_dataset(tmp_path, "train+val", test_size=0)
    assert everything(dataset)[0].shape == (2, 1, 28, 28)


def first(folder):
    return min(folder.iterdir())


def move(folder, old, new):
    (folder / new).parent.mkdir(parents=True, exist_ok=True)
    (folder / old).rename(folder / new)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: move(f, "train/cat", "train/pets/cat"), "pets/cat lies within the class folder"),
        (lambda f: move(f, "test/cat", "test/lynx"), r"class 'lynx', of which there are no train"),
        (lambda f: (f / "train" / "ant").mkdir(), "train/ant holds no images"),
        (lambda f: move(f, first(f / "train/cat"), "train/x.png"), r"in no class folder .x.png"),
        (lambda f: move(f, "Valid", "Train"), "holds both Train and train; join them"),
        (lambda f: move(f, "train", "elsewhere/x"), "in no class folder|lies within"),
    ],
)
def test_folders_that_are_refused(split_folder, spoil, message):
    spoil(split_folder)
    with pytest.raises(UserError, match=message):
        load_dataset(split_folder, "test")


def test_one_class_alone_is_refused(tmp_path, make, empty_cache):
    labels = make.sample_arrays("cifar10-sample")["train_labels"]
    make.write_folder(tmp_path / "a", np.nonzero(labels == 3)[0])
    with pytest.raises(UserError, match="all training images are of one class, 'cat'"):
        load_dataset(tmp_path / "a", "train")


def test_what_is_left_out_is_reported(folder):
    (folder / "cat" / "notes.txt").touch()
    (folder / "cat" / ".hidden.png").touch()
    said = []
    load_dataset(folder, "train", report=said.append)
    assert said == [f"{folder}: left out 1 files of other kinds: .txt 1"]


def test_an_image_that_cannot_be_read_is_named(folder):
    first(folder / "cat").write_bytes(b"none")
    with pytest.raises(UserError, match=r"cannot read cat/\d+.png: not an image"):
        everything(load_dataset(folder, "train+val", test_size=0, near_duplicates="ignore"))


def test_the_fingerprint_tells_changes(folder):
    def mark():
        return fingerprint(load_dataset(folder, "train").whole)

    before = mark()
    assert mark() == before
    first(folder / "cat").rename(folder / "cat" / "x.png")
    assert mark() != before
