"""How a split of a data set is loaded, whether it is known by name or the user's own."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from resnetlab.console import Report, print_to_stderr
from resnetlab.data import sources
from resnetlab.data.collection import usual_size
from resnetlab.data.dataset import SPLITS, Dataset, Split, cut
from resnetlab.data.entries import CATALOGUE, Entry
from resnetlab.data.folder import read_folder
from resnetlab.data.memory import MemoryDataset
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.files import reading, user_path
from resnetlab.records import did_you_mean


def list_datasets() -> list[str]:
    """Names for ``load_dataset``."""
    return list(CATALOGUE)


def _entry(name: str) -> Entry:
    if name not in CATALOGUE:
        raise UserError(f"there is no data set {name!r}{did_you_mean(name, CATALOGUE)}")
    return CATALOGUE[name]


def fetch(
    name: str, *, data_dir: str | Path | None = None, report: Report = print_to_stderr
) -> Path:
    """Make sure that a data set is at hand, and return its verified folder.

    A ``data_dir`` must hold the files, in torchvision's layout or in the cache's; without one the
    official host and then the mirrors are tried. Safe to repeat, to interrupt and to run twice at
    once. Raises UserError for an unknown name, damaged files, no permission, no space, or where no
    source has the files.
    """
    folder = user_path(data_dir) if data_dir is not None else None
    return sources.fetch(_entry(name).source, data_dir=folder, report=report)


class Divided(Protocol):
    """A data set with its splits."""

    def has(self, split: Split) -> bool:
        """Whether it has images for a split."""
        ...

    def part(self, split: Split, classes: Sequence[str] | None = None) -> Dataset:
        """The images of a split, labelled by ``classes`` where the data have no order of their own.

        Classes are matched by name; where some are missing in ``classes``, these do not count.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _Published:
    """A data set of the catalogue; its files are read when a split is asked for."""

    name: str
    entry: Entry
    data_dir: Path | None
    val_size: float | None
    split_seed: int
    report: Report

    def has(self, split: Split) -> bool:
        if split == "val":
            return self.val_size != 0
        return ("test" if split == "test" else "train") in self.entry.source.splits

    def part(self, split: Split, classes: Sequence[str] | None = None) -> Dataset:
        whole = replace(self._stored("test") if split == "test" else self._training, split=split)
        if split not in ("train", "val"):
            return whole
        val_size = usual_size(len(whole)) if self.val_size is None else self.val_size
        return cut(whole, split, val_size, self.split_seed)

    @functools.cached_property
    def _training(self) -> MemoryDataset:
        return self._stored("train")

    def _stored(self, stored: Literal["train", "test"]) -> MemoryDataset:
        pixels, labels = sources.load_split(
            self.entry.source, stored, data_dir=self.data_dir, report=self.report
        )
        images = torch.from_numpy(pixels)
        return MemoryDataset(
            name=self.name,
            split=stored,
            images=images.permute(0, 3, 1, 2) if images.ndim == 4 else images[:, None],
            labels=torch.from_numpy(labels).long(),
            classes=self.entry.classes,
            preprocessing=self.entry.preprocessing,
        )


def open_dataset(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    val_size: float | None = None,
    test_size: float | None = None,
    split_seed: int = 0,
    report: Report = print_to_stderr,
) -> Divided:
    """A data set with its splits; see ``load_dataset``."""
    folder = user_path(data_dir) if data_dir is not None else None
    if not is_path(name):
        return _Published(
            name=str(name),
            entry=_entry(str(name)),
            data_dir=folder,
            val_size=val_size,
            split_seed=split_seed,
            report=report,
        )
    path = user_path(name)
    with reading(path):
        if not path.exists():
            raise UserError(f"`dataset` {path}: there is no such file or folder.")
    return read_folder(path, report).divided(
        val_size=val_size, test_size=test_size, seed=split_seed
    )


def is_path(name: str | Path) -> bool:
    """Whether a data set is the user's own, by the path of its folder or file."""
    if isinstance(name, str) and name in CATALOGUE:
        return False
    return isinstance(name, Path) or os.sep in name or "/" in name or user_path(name).exists()


@torch_defaults()
def load_dataset(
    name: str | Path,
    split: Split,
    *,
    data_dir: str | Path | None = None,
    val_size: float | None = None,
    test_size: float | None = None,
    split_seed: int = 0,
    report: Report = print_to_stderr,
) -> Dataset:
    """A split of a data set.

    Args:
        name: One of ``list_datasets``, fetched first if need be; or the path of a folder:
            root/{train,val,test}/class/*, or root/class/*.
        split: "train", "val", "test" or "train+val".
        data_dir: Folder that already holds the data set of that name.
        val_size: Images for "val", drawn from the training images where the data set comes without
            any: a number or, below 1, a share. By default 5,000, and of fewer than 50,000 a tenth.
        test_size: Images for "test", drawn likewise from a folder that comes without any splits.
        split_seed: Of what is drawn.
        report: Is told what else happens.

    Raises:
        UserError: An unknown name or split, an impossible size, unusable files, and a data set
            without that split.
    """
    if split not in SPLITS:
        raise UserError(f"`split` must be one of {', '.join(SPLITS)}, not {split!r}.")
    dataset = open_dataset(
        name,
        data_dir=data_dir,
        val_size=val_size,
        test_size=test_size,
        split_seed=split_seed,
        report=report,
    )
    if split == "test" and not dataset.has(split):
        raise UserError(f"{name} has no test split.")
    return dataset.part(split)


def has_split(name: str | Path, split: Split, **options: Any) -> bool:
    """Whether a data set has images for a split; ``options`` are those of ``load_dataset``."""
    return open_dataset(name, **options).has(split)
