"""How a split of a data set is loaded, whether it is known by name or the user's own."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from resnetlab.arguments import check_types
from resnetlab.console import Report, print_to_stderr
from resnetlab.data import sources
from resnetlab.data.collection import Collection, usual_size
from resnetlab.data.dataset import Dataset, Split, cut
from resnetlab.data.duplicates import grouped, near_pairs
from resnetlab.data.entries import CATALOGUE, Entry
from resnetlab.data.folder import read_folder
from resnetlab.data.libraries import (
    HUGGING_FACE,
    TORCHVISION,
    collected,
    pixel_reader,
    read_hugging_face,
    read_torchvision,
)
from resnetlab.data.manifest import divided_by
from resnetlab.data.memory import MemoryDataset
from resnetlab.data.shards import is_shards, read_shards
from resnetlab.data.survey import readable, refuse_unreadable, survey
from resnetlab.data.table import TABLE_SUFFIXES, read_table
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


@check_types
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
    split_file: str | Path | None = None,
    near_duplicates: Literal["together", "ignore"] = "together",
    on_bad_image: Literal["error", "skip"] = "error",
    report: Report = print_to_stderr,
) -> Divided:
    """A data set with its splits; see ``load_dataset``."""
    if not is_own(name):
        if split_file:
            raise UserError(f"{name} has splits of its own; leave `split_file` out.")
        return _Published(
            name=str(name),
            entry=_entry(str(name)),
            data_dir=user_path(data_dir) if data_dir is not None else None,
            val_size=val_size,
            split_seed=split_seed,
            report=report,
        )
    whole = read_collection(name, data_dir=data_dir, report=report)
    if split_file:
        return divided_by(whole, user_path(split_file))
    if on_bad_image == "skip":
        whole = readable(whole, report)
    together = None
    draws = not whole.has_own_splits or not whole.has("val")
    if draws and (val_size != 0 or test_size != 0) and near_duplicates == "together":
        found = survey(whole.samples, whole.name)
        refuse_unreadable(found, whole.samples, whole.place)
        together = grouped(len(whole), near_pairs(found), whole.groups)
    return whole.divided(val_size=val_size, test_size=test_size, seed=split_seed, together=together)


def read_collection(
    name: str | Path, *, data_dir: str | Path | None = None, report: Report = print_to_stderr
) -> Collection:
    """The user's own images, with the splits that they come with; those of a known set as well."""
    if not is_own(name):
        return _as_collection(str(name), _entry(str(name)), data_dir, report)
    text = str(name)
    folder = user_path(data_dir) if data_dir is not None else None
    if text.startswith(TORCHVISION):
        return read_torchvision(text, folder)
    if text.startswith(HUGGING_FACE):
        return read_hugging_face(text)
    path = user_path(name)
    if is_shards(path.name):
        return read_shards(str(path))
    with reading(path):
        if not path.exists():
            raise UserError(f"`dataset` {path}: there is no such file or folder.")
        is_folder = path.is_dir()
        holds_shards = is_folder and any(path.glob("*.tar"))
    if holds_shards:
        return read_shards(str(path / "*.tar"))
    if is_folder:
        return read_folder(path, report)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(path, folder)
    raise UserError(
        f"`dataset` {path} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)}) nor a tar "
        "shard."
    )


def _as_collection(
    name: str, entry: Entry, data_dir: str | Path | None, report: Report
) -> Collection:
    """A set of the catalogue as if its images were files."""
    folder = user_path(data_dir) if data_dir is not None else None
    parts = {
        split: sources.load_split(entry.source, split, data_dir=folder, report=report)
        for split in entry.source.splits
    }
    return collected(
        name,
        {split: pixel_reader(images) for split, (images, _) in parts.items()},
        {split: labels.tolist() for split, (_, labels) in parts.items()},
        entry.classes,
    )


def is_own(name: str | Path) -> bool:
    """Whether a data set is not of the catalogue: the user's own, or another library's."""
    if not isinstance(name, str):
        return True
    return name.startswith((TORCHVISION, HUGGING_FACE)) or is_path(name)


def is_path(name: str) -> bool:
    """Whether a data set is given by the path of its folder, table or shards."""
    if name in CATALOGUE or name.startswith((TORCHVISION, HUGGING_FACE)):
        return False
    known = is_shards(name) or Path(name).suffix.lower() in TABLE_SUFFIXES
    return known or os.sep in name or "/" in name or user_path(name).exists()


@check_types
@torch_defaults()
def load_dataset(
    name: str | Path,
    split: Split,
    *,
    data_dir: str | Path | None = None,
    val_size: float | None = None,
    test_size: float | None = None,
    split_seed: int = 0,
    split_file: str | Path | None = None,
    near_duplicates: Literal["together", "ignore"] = "together",
    on_bad_image: Literal["error", "skip"] = "error",
    report: Report = print_to_stderr,
) -> Dataset:
    """A split of a data set.

    Args:
        name: One of ``list_datasets``, fetched first if need be; "torchvision:NAME", "hf:NAME"; or
            a path: of a folder (root/{train,val,test}/class/* or root/class/*), of a table (.csv,
            .tsv, .jsonl) with the columns path, label and, if there are any, split and group, or of
            tar shards in WebDataset's layout ("shards/train-{000..099}.tar").
        split: "train", "val", "test" or "train+val".
        data_dir: Folder that already holds the data set of that name, or that the paths of a table
            are relative to.
        val_size: Images for "val", drawn from the training images where the data set comes without
            any: a number or, below 1, a share. By default 5,000, and of fewer than 50,000 a tenth.
        test_size: Images for "test", drawn likewise from a folder that comes without any splits.
        split_seed: Of what is drawn.
        split_file: A table (split.csv of a run) that says of each image's path which split it is
            for; others are left out.
        near_duplicates: Whether images that look alike stay on one side of what is drawn.
        on_bad_image: "skip" leaves out images that cannot be read, up to ``MOST_SKIPPED`` of them.
        report: Is told what else happens.

    Raises:
        UserError: An unknown name or split, an impossible size, unusable files, and a data set
            without that split.
    """
    dataset = open_dataset(
        name,
        data_dir=data_dir,
        val_size=val_size,
        test_size=test_size,
        split_seed=split_seed,
        split_file=split_file,
        near_duplicates=near_duplicates,
        on_bad_image=on_bad_image,
        report=report,
    )
    if split == "test" and not dataset.has(split):
        raise UserError(f"{name} has no test split.")
    return dataset.part(split)


def has_split(name: str | Path, split: Split, **options: Any) -> bool:
    """Whether a data set has images for a split; ``options`` are those of ``load_dataset``."""
    return open_dataset(name, **options).has(split)
