import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.functional import pil_to_tensor

from resnetlab.data import libraries
from resnetlab.data.catalogue import load_dataset
from resnetlab.errors import UserError


@pytest.fixture
def kuzushiji(tmp_path, make):
    """Files in the format of torchvision's KMNIST, with images of the Fashion-MNIST sample."""
    make.write_idx(tmp_path / "KMNIST" / "raw", suffix="")
    return tmp_path


def test_images_and_labels_are_torchvisions(kuzushiji, empty_cache):
    for split in ("train", "test"):
        ours = load_dataset("torchvision:KMNIST", split, data_dir=kuzushiji, val_size=0)
        theirs = datasets.KMNIST(str(kuzushiji), train=split == "train")
        images, labels = ours.batch(torch.arange(20))
        assert len(ours) == len(theirs)
        assert list(ours.classes) == theirs.classes
        assert labels.tolist() == theirs.targets[:20].tolist()
        assert torch.equal(images, torch.stack([pil_to_tensor(theirs[i][0]) for i in range(20)]))


def test_what_torchvision_has_not(tmp_path, empty_cache, monkeypatch):
    with pytest.raises(UserError, match="no classification data set 'KMINST'; did you mean 'KMNI"):
        load_dataset("torchvision:KMINST", "train")
    monkeypatch.setattr(datasets.KMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(UserError, match=r"KMNIST is not in .* and cannot be downloaded \(.*`data_"):
        load_dataset("torchvision:KMNIST", "train", data_dir=tmp_path)


def encoded(seed):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def test_hugging_face(tmp_path, empty_cache, monkeypatch):
    hub = pytest.importorskip("datasets")
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    kinds = {"image": hub.Image(), "label": hub.ClassLabel(names=["cat", "dog"])}
    columns = {"image": [encoded(i) for i in range(6)], "label": [0, 1, 0, 1, 1, 0]}
    whole = hub.Dataset.from_dict(columns, features=hub.Features(kinds))
    loaded = {"train": whole, "test": whole.select([1, 2])}
    monkeypatch.setattr(hub, "load_dataset", lambda name: hub.DatasetDict(loaded))
    train = load_dataset("hf:someone/pets", "train", val_size=0)
    assert (train.classes, train.labels.tolist()) == (("cat", "dog"), [0, 1, 0, 1, 1, 0])
    images, _ = train.batch(torch.arange(6))
    assert torch.equal(images, torch.stack([pil_to_tensor(whole[i]["image"]) for i in range(6)]))
    assert load_dataset("hf:someone/pets", "test").labels.tolist() == [1, 0]

    several = {"image": hub.Image(), "labels": hub.List(hub.ClassLabel(names=["cat", "dog"]))}
    columns = {"image": [encoded(1)], "labels": [[0, 1]]}
    loaded = {"train": hub.Dataset.from_dict(columns, features=hub.Features(several))}
    with pytest.raises(UserError, match=r"labels holds several .* multi-label data are not suppo"):
        load_dataset("hf:someone/pets", "train")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match="needs the package datasets: pip install datasets"):
        libraries.read_hugging_face("hf:x/y")
