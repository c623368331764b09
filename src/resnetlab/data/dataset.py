"""CIFAR-10 and Fashion-MNIST as one record: all images of a split in one uint8 tensor."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from resnetlab.console import Report, print_to_stderr
from resnetlab.data import sources
from resnetlab.data.sampling import stratified_indices
from resnetlab.errors import UserError
from resnetlab.seeding import seeded_generator

Split = Literal["train", "val", "test", "train+val"]
SPLITS: tuple[Split, ...] = ("train", "val", "test", "train+val")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a data set beside its pixels; mean and std of the whole training set."""

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


CIFAR10 = Facts(
    classes=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    mean=(0.49139968, 0.48215841, 0.44653091),
    std=(0.24703223, 0.24348513, 0.26158784),
)

FASHION_MNIST = Facts(
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    mean=(0.28604060,),
    std=(0.35302425,),
)

DATASETS = {
    "cifar10": CIFAR10,
    "fashion-mnist": FASHION_MNIST,
    "cifar10-sample": CIFAR10,
    "fashion-mnist-sample": FASHION_MNIST,
}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A split of a data set in memory."""

    name: str
    split: Split
    images: Tensor
    """uint8 (n, channels, height, width), stored in channels_last order."""
    labels: Tensor
    """int64 (n,)"""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel over all pixels of the training set, on the scale 0..1."""
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images, in channels_last order, and labels of some samples.

        index_select on pixels-last storage copies whole images: 25 times faster than
        images[indices].
        """
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, indices)
        return pixels.permute(0, 3, 1, 2), self.labels.index_select(0, indices)

    def subset(self, indices: Tensor) -> "Dataset":
        images, labels = self.batch(indices)
        return replace(self, images=images, labels=labels)

    def take(self, n: int) -> "Dataset":
        """The first n samples if the classes take turns, in the order of the data set."""
        return self.subset(stratified_indices(self.labels, n))


def list_datasets() -> list[str]:
    """Names for ``load_dataset``."""
    return list(DATASETS)


def load_dataset(
    name: str,
    split: Split,
    *,
    data_dir: Path | None = None,
    val_size: int = 5000,
    split_seed: int = 0,
    report: Report = print_to_stderr,
) -> Dataset:
    """A split of a data set, fetched first if need be.

    "val" is `val_size` images of the training set, equally many of each class as far as that
    divides, drawn with `split_seed`; "train" is the rest, "train+val" the whole. Raises
    UserError for an unknown name or split, an impossible size and unusable files.
    """
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    stored = "test" if split == "test" else "train"
    pixels, classes = sources.load_split(name, stored, data_dir=data_dir, report=report)
    images = torch.from_numpy(pixels)
    facts = DATASETS[name]
    dataset = Dataset(
        name=name,
        split=split,
        images=images.permute(0, 3, 1, 2) if images.ndim == 4 else images[:, None],
        labels=torch.from_numpy(classes).long(),
        classes=facts.classes,
        mean=facts.mean,
        std=facts.std,
    )
    if split in ("test", "train+val"):
        return dataset
    return cut(dataset, split, val_size, split_seed)


def cut(whole: Dataset, split: Literal["train", "val"], val_size: int, seed: int) -> Dataset:
    """One of the two parts of a "train+val" that is loaded already, as ``load_dataset`` has it."""
    train, val = split_indices(whole.labels, val_size, seed)
    return replace(whole.subset(train if split == "train" else val), split=split)


def split_indices(labels: Tensor, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ascending indices of the training and the validation samples, int64."""
    if not 0 <= val_size < len(labels):
        raise UserError(
            f"`val_size` {val_size} does not fit {len(labels)} training images; take fewer, or 0."
        )
    order = torch.randperm(len(labels), generator=seeded_generator(seed, "validation"))
    chosen = order[stratified_indices(labels[order], val_size)]
    is_val = torch.zeros(len(labels), dtype=torch.bool)
    is_val[chosen] = True
    return torch.nonzero(~is_val).flatten(), torch.nonzero(is_val).flatten()


def dataset_statistics(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over all pixels, on the scale 0..1.

    Exact: the pixels are counted by value, so no rounding builds up over 51 million of them.
    """
    means, deviations = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(dataset.channels):
        counts = torch.bincount(dataset.images[:, channel].flatten(), minlength=256).double()
        share = counts / counts.sum()
        mean = (share * values).sum()
        means.append(mean.item())
        deviations.append((share * (values - mean) ** 2).sum().sqrt().item())
    return tuple(means), tuple(deviations)
