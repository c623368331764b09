"""What every data set answers, wherever its images lie; and parts of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from resnetlab.console import progress
from resnetlab.data.crops import Crop, everything
from resnetlab.data.sampling import stratified_indices
from resnetlab.data.splitting import split_indices
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.preprocessing import Preprocessing
from resnetlab.seeding import seeded_generator

Split = Literal["train", "val", "test", "train+val"]
SPLITS: tuple[Split, ...] = ("train", "val", "test", "train+val")


class Dataset(Protocol):
    """The samples of one split, in an order of their own: in memory, in a folder, in shards."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""
        ...

    @property
    def labels(self) -> Tensor:
        """int64 (n,)"""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How ``batch`` arranges the images, and how they are normalised after that."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether a batch costs next to nothing, so that loading it ahead would not pay."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of some samples: uint8 (n, channels, size, size), int64 (n,)."""
        ...

    def uncropped(self, index: int, size: int, crop: Crop = everything) -> Tensor:
        """A sample's image, or the part of it that ``crop`` wants: uint8 (height, width, channels).

        As large as it is, or reduced so that the shorter side has ``size`` pixels, fast rather
        than as a network's preprocessing would: to be trained on, not to be judged by. Nobody may
        change it. Threads may ask at the same time.
        """
        ...

    def prepared(self, preprocessing: Preprocessing) -> Dataset:
        """The same samples, arranged and normalised otherwise."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Some samples of a data set, in a given order."""

    whole: Dataset
    indices: Tensor
    """int64 (n,), of the samples in ``whole``"""
    split: str

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.whole.classes

    @property
    def labels(self) -> Tensor:
        return self.whole.labels[self.indices]

    @property
    def preprocessing(self) -> Preprocessing:
        return self.whole.preprocessing

    @property
    def in_memory(self) -> bool:
        return self.whole.in_memory

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole.batch(self.indices[indices])

    def uncropped(self, index: int, size: int, crop: Crop = everything) -> Tensor:
        return self.whole.uncropped(int(self.indices[index]), size, crop)

    def prepared(self, preprocessing: Preprocessing) -> Subset:
        whole = self.whole.prepared(preprocessing)
        return Subset(whole=whole, indices=self.indices, split=self.split)


def cut(whole: Dataset, split: Literal["train", "val"], val_size: float, seed: int) -> Dataset:
    """The training or the validation part of all training samples; see ``split_indices``."""
    train, val = split_indices(whole.labels, val_size, seed)
    return Subset(whole=whole, indices=train if split == "train" else val, split=split)


def first_drawn(train: Dataset, size: int | None, seed: int) -> Dataset:
    """So many training samples, of each class in proportion; None: all.

    Drawn with ``seed``; the samples of a smaller size are among those of a larger one. Raises
    UserError for more than there are.
    """
    if size is None:
        return train
    if size > len(train):
        raise UserError(
            f"`train_size` {size:,} does not fit {len(train):,} training images; take fewer."
        )
    order = torch.randperm(len(train), generator=seeded_generator(seed, "training"))
    chosen = order[stratified_indices(train.labels[order], size)].sort().values
    return Subset(whole=train, indices=chosen, split=train.split)


@torch_defaults()
def dataset_statistics(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over all pixels, on the scale 0..1.

    Exact: the pixels are counted by value, so no rounding builds up over 51 million of them.
    """
    counts = torch.zeros(dataset.preprocessing.channels, 256, dtype=torch.float64)
    batches = torch.arange(len(dataset)).split(1024)
    for indices in progress(batches, len(batches), f"counting the pixels of {dataset.name}"):
        images, _ = dataset.batch(indices)
        for channel, count in enumerate(counts):
            count += torch.bincount(images[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum(1, keepdim=True)
    mean = (shares * values).sum(1)
    variance = (shares * (values - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().tolist())
