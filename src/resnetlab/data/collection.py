"""Everything that a source of encoded images holds, and how it is divided into splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from resnetlab.data.dataset import Dataset, Split, Subset
from resnetlab.data.encoded import EncodedDataset, Samples, some_of, usual_preprocessing
from resnetlab.data.splitting import split_indices
from resnetlab.errors import UserError

PARTS = ("train", "val", "test")
"""The splits, by their numbers in ``Collection.splits``; -1 is for samples that have none yet."""

UNDIVIDED = -1
SPLIT_NAMES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
"""What folders, columns and shards call them."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Labelled samples, those of all splits in one order."""

    name: str
    """what a person calls it: a folder's own name, say"""
    place: Path | str
    """where it lies, for messages"""
    samples: Samples
    names: tuple[str, ...]
    """of the classes that occur in any split"""
    labels: np.ndarray
    """number in ``names``, int64 (n,)"""
    splits: np.ndarray
    """number in ``PARTS``, int8 (n,)"""
    groups: np.ndarray | None = None
    """samples with the same number belong on one side of a split, int64 (n,)"""
    skipped: tuple[tuple[str, str], ...] = ()
    """paths of images that were left out since they cannot be read, and why"""

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, indices: np.ndarray) -> Collection:
        """Some of the samples, in that order."""
        return replace(
            self,
            samples=self.samples.chosen(indices),
            labels=self.labels[indices],
            splits=self.splits[indices],
            groups=None if self.groups is None else self.groups[indices],
        )

    def has(self, split: Split) -> bool:
        """Whether there are images for a split."""
        return bool(np.isin(self.splits, _numbers(split)).any())

    @property
    def has_own_splits(self) -> bool:
        """Whether it comes with a split for each sample or some."""
        return not bool((self.splits == UNDIVIDED).all())

    def divided(
        self,
        *,
        val_size: float | None = None,
        test_size: float | None = None,
        seed: int = 0,
        together: np.ndarray | None = None,
    ) -> Collection:
        """Each sample with its split: those that have none are drawn with ``seed``.

        Of a collection without any splits, ``test_size`` images are for testing; of one without
        validation images, ``val_size`` of those for training. By default each is 5,000 images, and
        of fewer than 50,000 a tenth. Samples with the same number in ``together`` (by default, in
        ``groups``) stay on one side.
        """
        if together is None:
            together = self.groups
        splits = self.splits.copy()
        if not self.has_own_splits:
            if test_size is None:
                test_size = usual_size(len(splits))
            self._draw(splits, UNDIVIDED, "test", test_size, seed, together)
        splits[splits == UNDIVIDED] = PARTS.index("train")
        if not (splits == PARTS.index("val")).any():
            if val_size is None:
                val_size = usual_size(int((splits == PARTS.index("train")).sum()))
            self._draw(splits, PARTS.index("train"), "val", val_size, seed, together)
        return replace(self, splits=splits)

    def _draw(
        self,
        splits: np.ndarray,
        pool: int,
        part: Literal["val", "test"],
        size: float,
        seed: int,
        together: np.ndarray | None,
    ) -> None:
        """Move samples of a split, in place, to another."""
        (there,) = np.nonzero(splits == pool)
        purpose = {"val": "validation", "test": "test"}[part]
        _, drawn = split_indices(
            torch.from_numpy(self.labels[there]),
            size,
            seed,
            parameter=f"{part}_size",
            purpose=purpose,
            groups=None if together is None else together[there],
        )
        splits[there[drawn.numpy()]] = PARTS.index(part)

    def part(self, split: Split, classes: Sequence[str] | None = None) -> Dataset:
        """The samples of a split of a divided collection.

        They are labelled by ``classes`` where these include all that there are, or else by those of
        the training images. Raises UserError where an image is of none of these, and where there is
        one class alone.
        """
        if classes is None or not {*self.names} <= {*classes}:
            classes = self._classes()
        numbers = {name: number for number, name in enumerate(classes)}
        translation = np.array([numbers.get(name, -1) for name in self.names])
        labels = translation[self.labels]
        self._check_known(labels, classes)
        whole = EncodedDataset(
            name=self.name,
            split="all",
            samples=self.samples,
            labels=torch.from_numpy(labels),
            classes=tuple(classes),
            preprocessing=usual_preprocessing(self.samples),
        )
        (indices,) = np.nonzero(np.isin(self.splits, _numbers(split)))
        return Subset(whole=whole, indices=torch.from_numpy(indices), split=split)

    def _classes(self) -> list[str]:
        train = self.splits == PARTS.index("train")
        if not train.any():  # images for testing alone
            return list(self.names)
        classes = [self.names[label] for label in np.unique(self.labels[train])]
        if len(classes) == 1:
            raise UserError(
                f"{self.place}: all training images are of one class, {classes[0]!r}, so there is "
                "nothing to tell apart; add images of another."
            )
        return classes

    def _check_known(self, labels: np.ndarray, classes: Sequence[str]) -> None:
        (strange,) = np.nonzero(labels < 0)
        if not len(strange):
            return
        index = int(strange[0])
        part = PARTS[self.splits[index]]
        name = self.names[self.labels[index]]
        raise UserError(
            f"{self.place}: {self.samples.path_of(index)} ({part}) is of class {name!r}, of which "
            f"there are no training images ({some_of(classes, 5)}); rename the class, or leave it "
            "out."
        )


def usual_size(n: int) -> int:
    """Images to draw of so many where nobody says: as of CIFAR-10, and of smaller sets a tenth."""
    return min(5000, n // 10)


def _numbers(split: Split) -> list[int]:
    return [PARTS.index(part) for part in split.split("+")]


def sorted_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Each once: numbers by their value, others by their letters."""
    distinct = set(names)
    return tuple(sorted(distinct, key=int if all(map(str.isdecimal, distinct)) else None))
