from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.data import sources
from resnetlab.data.catalogue import CATALOGUE, list_datasets, load_dataset
from resnetlab.data.dataset import cut, dataset_statistics, first_drawn
from resnetlab.data.splitting import split_indices
from resnetlab.errors import UserError
from resnetlab.files import cache_home

SAMPLES = Path(__file__).parent / "samples"


def sample(name="cifar10-sample", split="train+val", **options):
    return load_dataset(name, split, data_dir=SAMPLES, **options)


def everything(dataset):
    """All images and labels."""
    return dataset.batch(torch.arange(len(dataset)))


def full(name, split):
    """The full set out of the cache; tests fetch nothing."""
    if not (cache_home() / name / "train.safetensors").exists():
        pytest.skip(f"{name} is not in {cache_home()}: run `resnetlab data fetch {name}`")
    return load_dataset(name, split)


@pytest.mark.parametrize(
    ("name", "shape"), [("cifar10-sample", (3, 32, 32)), ("fashion-mnist-sample", (1, 28, 28))]
)
def test_fields(name, shape):
    for split, n in (("train", 250), ("val", 50), ("train+val", 300), ("test", 100)):
        dataset = sample(name, split, val_size=50)
        images, labels = everything(dataset)
        assert images.shape == (n, *shape)
        assert images.dtype == torch.uint8
        assert torch.equal(labels, dataset.labels)
        assert dataset.labels.dtype == torch.int64
        assert dataset.labels.bincount().tolist() == [n // 10] * 10
        assert len(dataset) == n
        assert dataset.preprocessing.size == shape[2]
        assert len(dataset.classes) == 10
        assert dataset.preprocessing.channels == shape[0]
        assert (dataset.name, dataset.split) == (name, split)


def test_train_and_val_are_disjoint_and_complete():
    whole = sample()
    parts = [sample(split=split, val_size=50) for split in ("train", "val")]
    rows = {row.numpy().tobytes() for part in parts for row in everything(part)[0]}
    assert rows == {row.numpy().tobytes() for row in everything(whole)[0]}
    assert sum(map(len, parts)) == len(whole)
    for part in parts:
        again = cut(whole, part.split, 50, 0)
        assert torch.equal(everything(again)[0], everything(part)[0])
        assert (again.split, again.labels.tolist()) == (part.split, part.labels.tolist())


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 2**40),
)
def test_split_is_a_seeded_partition(labels, share, seed):
    labels = torch.tensor(labels)
    size = int(share * len(labels))
    train, val = split_indices(labels, size, seed)
    assert len(val) == size
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(len(labels)))
    again = split_indices(labels, size, seed)
    assert torch.equal(train, again[0])
    assert torch.equal(val, again[1])
    # Stratified by Webster's method: no seat more was due to one class than to another.
    given_, owned = labels[val].bincount(minlength=5), labels.bincount(minlength=5)
    last = max((g - 0.5) / o for g, o in zip(given_, owned, strict=True) if g) if size else 0
    next_ = min((g + 0.5) / o for g, o in zip(given_, owned, strict=True) if g < o)
    assert last <= next_


def test_a_share_of_the_training_set_is_stratified_and_grows():
    train = sample(split="train", val_size=100)
    drawn = [first_drawn(train, size, 3) for size in (10, 45, 100, 200)]
    assert [len(some) for some in drawn] == [10, 45, 100, 200]
    for some, of_each in zip(drawn, ({1}, {4, 5}, {10}), strict=False):
        assert {*some.labels.bincount(minlength=10).tolist()} == of_each
    chosen = [set(some.indices.tolist()) for some in drawn]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    images, labels = drawn[1].batch(torch.arange(45))
    assert torch.equal(images, train.batch(drawn[1].indices)[0])
    assert torch.equal(labels, drawn[1].labels)
    assert chosen[1] != set(first_drawn(train, 45, 4).indices.tolist())
    assert first_drawn(train, None, 3) is train
    with pytest.raises(UserError, match="`train_size` 201 does not fit 200 training images"):
        first_drawn(train, 201, 3)


def test_split_depends_on_the_seed():
    labels = sample().labels
    splits = [split_indices(labels, 50, seed)[1].tolist() for seed in range(3)]
    assert len({tuple(split) for split in splits}) == 3


def test_batch_equals_indexing():
    dataset = sample()
    indices = torch.tensor([5, 299, 0, 5])
    images, labels = dataset.batch(indices)
    assert torch.equal(images, dataset.images[indices])
    assert torch.equal(labels, dataset.labels[indices])
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cifar11", "test"), "no data set 'cifar11'; did you mean 'cifar10'"),
        (
            ("cifar10-sample", "dev"),
            "`split` must be one of train, val, test, train.val, not 'dev'",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(*arguments, data_dir=SAMPLES)


def test_a_validation_split_that_does_not_fit():
    with pytest.raises(ValueError, match="`val_size` 5000 does not fit 300 training images"):
        load_dataset("cifar10-sample", "val", data_dir=SAMPLES, val_size=5000)


def test_the_default_validation_split_is_a_tenth_of_a_small_set():
    train, val = (load_dataset("cifar10-sample", s, data_dir=SAMPLES) for s in ("train", "val"))
    assert (len(train), len(val)) == (270, 30)
    (same,) = (load_dataset("cifar10-sample", "val", data_dir=SAMPLES, val_size=v) for v in (0.1,))
    assert torch.equal(same.indices, val.indices)


def test_list_datasets():
    assert list_datasets() == list(CATALOGUE) == [entry.source.name for entry in CATALOGUE.values()]


def test_statistics_of_known_pixels():
    dataset = sample()
    pixels = dataset.images.double() / 255
    mean, std = dataset_statistics(dataset)
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-12)


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_the_full_set_has_the_published_statistics(name):
    dataset = full(name, "train+val")
    mean, std = dataset_statistics(dataset)
    assert mean == pytest.approx(dataset.preprocessing.mean, abs=6e-9)
    assert std == pytest.approx(dataset.preprocessing.std, abs=6e-9)


def test_the_papers_45k_5k_split():
    train, val = full("cifar10", "train"), full("cifar10", "val")
    assert (len(train), len(val)) == (45_000, 5_000)
    assert val.labels.bincount().tolist() == [500] * 10
    assert train.labels.bincount().tolist() == [4500] * 10


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_the_committed_sample_is_cut_from_the_full_set(name):
    full(name, "test")
    arrays = sources._cut(CATALOGUE[f"{name}-sample"].source, cache_home() / name)
    for split in ("train", "test"):
        images, labels = sources.read_split(
            CATALOGUE[f"{name}-sample"].source, split, SAMPLES / f"{name}-sample"
        )
        assert (images == arrays[f"{split}_images"]).all()
        assert (labels == arrays[f"{split}_labels"]).all()
