"""CIFAR-100 and MNIST: their own formats, in miniature, against torchvision's readers."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.transforms.functional import pil_to_tensor

from resnetlab.data import formats, sources
from resnetlab.data.catalogue import CATALOGUE, fetch, load_dataset
from resnetlab.errors import UserError


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar100(tmp_path, monkeypatch, empty_cache):
    """300 + 100 images of CIFAR-10 in CIFAR-100's format, with labels of our own."""
    folder = tmp_path / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        images, _ = sources.read_split(
            CATALOGUE["cifar10-sample"].source, split, SAMPLES / "cifar10-sample"
        )
        fine = [7 * index % 100 for index in range(len(images))]
        batch = {
            "filenames": [f"{index}.png" for index in range(len(images))],
            "batch_label": "training batch 1 of 1",
            "fine_labels": fine,
            "coarse_labels": [label // 5 for label in fine],
            "data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072),
        }
        text = pickle.dumps(batch, protocol=2)
        for key in batch:  # Python 2's strings, which torchvision reads as text and we as bytes
            modern = b"X" + len(key).to_bytes(4, "little") + key.encode()
            text = text.replace(modern, b"U" + bytes([len(key)]) + key.encode())
        (folder / split).write_bytes(text)
        monkeypatch.setitem(formats.CIFAR100_MD5, split, md5(folder / split))
    meta = {"fine_label_names": list(CATALOGUE["cifar100"].classes)}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5(folder / "test")]])
    changed = datasets.CIFAR100.meta | {"md5": md5(folder / "meta")}
    monkeypatch.setattr(datasets.CIFAR100, "meta", changed)
    return folder.parent


SAMPLES = formats.Path(__file__).parent / "samples"


def test_cifar100_is_that_of_torchvision(cifar100):
    for split in ("train", "test"):
        ours = load_dataset("cifar100", split, data_dir=cifar100, val_size=0)
        theirs = datasets.CIFAR100(str(cifar100), train=split == "train")
        images, labels = ours.batch(torch.arange(30))
        assert list(ours.classes) == theirs.classes
        assert labels.tolist() == theirs.targets[:30]
        assert torch.equal(images, torch.stack([pil_to_tensor(theirs[i][0]) for i in range(30)]))
        coarse = load_dataset("cifar100-coarse", split, data_dir=cifar100, val_size=0)
        assert len(coarse.classes) == 20
        assert coarse.labels.tolist() == [label // 5 for label in theirs.targets]
    assert load_dataset("cifar100", "test").labels.tolist() == theirs.targets  # out of the cache


def test_what_decays_in_the_cache_is_found(cifar100):
    folder = fetch("cifar100", data_dir=cifar100)
    data = bytearray((folder / "test.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "test.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="differ from the published ones"):
        sources.read_split(CATALOGUE["cifar100"].source, "test", folder)


def test_other_files_than_the_published_ones_are_refused(cifar100, monkeypatch):
    monkeypatch.setitem(formats.CIFAR100_MD5, "test", "0" * 32)
    with pytest.raises(UserError, match=r"test differs from the published file .wrong MD5."):
        fetch("cifar100", data_dir=cifar100)


def test_mnist_is_that_of_torchvision(tmp_path, make, monkeypatch, empty_cache):
    raw = tmp_path / "MNIST" / "raw"
    make.write_idx(raw)
    for name in formats.MNIST_MD5:
        monkeypatch.setitem(formats.MNIST_MD5, name, md5(raw / name))
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((raw / name).read_bytes()))
    for split in ("train", "test"):
        ours = load_dataset("mnist", split, data_dir=tmp_path, val_size=0)
        theirs = datasets.MNIST(str(tmp_path), train=split == "train")
        images, labels = ours.batch(torch.arange(len(ours)))
        assert torch.equal(images[:, 0], theirs.data)
        assert torch.equal(labels, theirs.targets)


def test_digests_are_those_of_torchvision():
    train, test = datasets.CIFAR100.train_list, datasets.CIFAR100.test_list
    archive = [datasets.CIFAR100.filename, datasets.CIFAR100.tgz_md5]
    assert dict([archive, *train, *test]) == formats.CIFAR100_MD5
    assert dict(datasets.MNIST.resources) == formats.MNIST_MD5
