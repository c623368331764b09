"""split.csv: which image is for training, validation and testing, and how large it was then.

Columns path, label, split, bytes and, where there are groups, group: a table that can be read again
as any other. No file is moved.
"""

from __future__ import annotations

import csv
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnetlab.data.collection import PARTS, SPLIT_NAMES, UNDIVIDED, Collection
from resnetlab.data.encoded import some_of
from resnetlab.data.table import read_rows
from resnetlab.errors import UserError
from resnetlab.files import atomic_write


@dataclass(frozen=True)
class Line:
    """What a manifest says of an image."""

    split: int
    label: str | None
    bytes: int | None


def write_manifest(collection: Collection, path: Path) -> None:
    """Write a divided collection's split.csv."""
    sizes = collection.samples.stamps()[:, 0].tolist()
    header = ["path", "label", "split", "bytes"] + ["group"] * (collection.groups is not None)
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        for index in range(len(collection)):
            label, split = collection.labels[index], collection.splits[index]
            row = [collection.samples.path_of(index), collection.names[label], PARTS[split]]
            row.append(sizes[index])
            if collection.groups is not None:
                row.append(int(collection.groups[index]))
            writer.writerow(row)


def read_manifest(path: Path) -> dict[str, Line]:
    """The lines of a split.csv by the paths of their images; UserError for one that is not."""
    lines = {}
    for number, row in read_rows(path):
        if not {"path", "split"} <= row.keys():
            raise UserError(f"`split_file` {path} needs the columns path and split.")
        split = str(row["split"] or "").lower()
        if split and split not in SPLIT_NAMES:
            raise UserError(
                f"{path}, row {number}: split must be train, val or test, not {split!r}."
            )
        size = str(row.get("bytes") or "")
        lines[str(row["path"])] = Line(
            SPLIT_NAMES.get(split, UNDIVIDED),
            row.get("label") or None,
            int(size) if size.isdecimal() else None,
        )
    return lines


def divided_by(collection: Collection, path: Path) -> Collection:
    """The images that a manifest gives a split, with these; others are left out.

    Raises UserError for images that are missing or are of another class by now.
    """
    lines = read_manifest(path)
    found: set[str] = set()
    chosen: list[int] = []
    splits: list[int] = []
    for index in range(len(collection)):
        name = collection.samples.path_of(index)
        line = lines.get(name)
        if line is None or line.split == UNDIVIDED:
            continue
        label = collection.names[collection.labels[index]]
        if line.label not in (None, label):
            raise UserError(
                f"{name} is of class {label!r}, and of {line.label!r} in `split_file` {path}; "
                "correct one of them."
            )
        found.add(name)
        chosen.append(index)
        splits.append(line.split)
    missing = [name for name in lines if name not in found and lines[name].split != UNDIVIDED]
    if missing:
        raise UserError(
            f"{collection.place} lacks {len(missing):,} of the images that `split_file` {path} "
            f"lists ({some_of(missing)}); put them back, or remove their rows."
        )
    part = collection.chosen(np.array(chosen, np.int64))
    return replace(part, splits=np.array(splits, np.int8))


def differences(collection: Collection, path: Path, skipped: Container[str] = ()) -> str | None:
    """What was added, removed or changed since a manifest was written, in words; None: nothing.

    ``skipped`` are paths that were there and are not listed.
    """
    lines = read_manifest(path)
    sizes = collection.samples.stamps()[:, 0].tolist()
    names = [collection.samples.path_of(index) for index in range(len(collection))]
    changed = [
        name
        for name, size, label in zip(names, sizes, collection.labels, strict=True)
        if name in lines
        and (
            lines[name].bytes not in (None, size)
            or lines[name].label not in (None, collection.names[label])
        )
    ]
    kinds = {
        "added": [name for name in names if name not in lines and name not in skipped],
        "removed": sorted(lines.keys() - set(names)),
        "changed": changed,
    }
    told = [f"{len(some):,} {kind} ({some_of(some)})" for kind, some in kinds.items() if some]
    return ", ".join(told) or None


def shares_images(collection: Collection, path: Path) -> bool:
    """Whether an image of a manifest is in a collection, by its path and its bytes."""
    lines = read_manifest(path)
    sizes = collection.samples.stamps()[:, 0].tolist()
    return any(
        name in lines and lines[name].bytes in (None, size)
        for name, size in ((collection.samples.path_of(i), size) for i, size in enumerate(sizes))
    )
