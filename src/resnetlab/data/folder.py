"""Images in a folder for each class: root/class/* or root/{train,val,test}/class/*."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resnetlab.console import Report, waiting
from resnetlab.data.collection import PARTS, SPLIT_NAMES, UNDIVIDED, Collection
from resnetlab.data.encoded import Files, Names, some_of
from resnetlab.data.images import IMAGE_SUFFIXES
from resnetlab.errors import UserError, reason_of


def read_folder(root: Path, report: Report) -> Collection:
    """The images below ``root``, ordered by split, class and name.

    Hidden files are passed over, and files of other kinds reported. Raises UserError for folders
    within class folders, a class without images, and images outside of class folders.
    """
    with waiting(f"looking for images in {root}"):
        parts = _parts(root, report)
        classes = [(split, entry) for split, folder in parts for entry in _classes(folder)]
        names = sorted({entry.name for _, entry in classes})
        paths: list[str] = []
        labels: list[int] = []
        splits: list[int] = []
        others: Counter[str] = Counter()
        for split, entry in classes:
            images = _images(Path(entry.path), others)
            if not images and split in (UNDIVIDED, PARTS.index("train")):
                raise UserError(
                    f"{entry.path} holds no images, so there is nothing to learn this class from; "
                    "add some, or remove the folder."
                )
            folder = Path(entry.path).relative_to(root).as_posix()
            paths += [f"{folder}/{image}" for image in images]
            labels += [names.index(entry.name)] * len(images)
            splits += [split] * len(images)
    if others:
        kinds = some_of([f"{kind} {count:,}" for kind, count in others.most_common()], 8)
        report(f"{root}: left out {others.total():,} files of other kinds: {kinds}")
    return Collection(
        name=root.resolve().name,
        place=root,
        samples=Files(root, Names(paths)),
        names=tuple(names),
        labels=np.array(labels, np.int64),
        splits=np.array(splits, np.int8),
    )


def _parts(root: Path, report: Report) -> list[tuple[int, Path]]:
    """The folders that hold class folders, with the splits that they are for."""
    folders = [entry.name for entry in _entries(root) if entry.is_dir()]
    named = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    if not named or (PARTS.index("train") not in named.values() and len(named) < len(folders)):
        return [(UNDIVIDED, root)]  # a class may be called test
    for name, split in named.items():
        if twins := [other for other in named if other != name and named[other] == split]:
            raise UserError(f"{root} holds both {name} and {twins[0]}; join them.")
    if others := [name for name in folders if name not in named]:
        report(f"{root}: left out folders that are no split: {some_of(others)}")
    return sorted((split, root / name) for name, split in named.items())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name, without what is hidden."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot read {folder}: {reason_of(error)}.") from error
    return sorted(entries, key=lambda entry: entry.name)


def _classes(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The class folders in a folder; UserError if there are none, or images beside them."""
    entries = _entries(folder)
    if loose := [entry.name for entry in entries if not entry.is_dir() and _is_image(entry.name)]:
        raise UserError(
            f"{folder} holds images that are in no class folder ({some_of(loose)}); put each into "
            "a folder named after its class, or list paths and labels in a table (CSV)."
        )
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise UserError(
            f"{folder} holds no class folders; put the images of each class into a folder of its "
            "name."
        )
    yield from folders


def _images(folder: Path, others: Counter[str]) -> list[str]:
    """Names of the images directly in a class folder; files of other kinds are counted."""
    images = []
    for entry in _entries(folder):
        if entry.is_dir():
            raise UserError(
                f"{entry.path} lies within the class folder {folder.name}; put the images of each "
                "class directly into one folder, or list paths and labels in a table (CSV)."
            )
        if _is_image(entry.name):
            images.append(entry.name)
        else:
            others[Path(entry.name).suffix.lower() or "no suffix"] += 1
    return images


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
