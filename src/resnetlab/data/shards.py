"""Images in tar shards, in WebDataset's layout: members of one key are one sample.

``a/0001.jpg`` and ``a/0001.cls`` (a number), ``.txt`` (a name) or ``.json`` (with "label" or
"class") make a labelled image. An index of where each image begins is kept in the cache, so that
any image is read by one seek, in any order. Other members are never read, so nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.console import progress
from resnetlab.data.collection import SPLIT_NAMES, UNDIVIDED, Collection, sorted_classes
from resnetlab.data.encoded import Names, some_of
from resnetlab.data.images import IMAGE_SUFFIXES
from resnetlab.data.table import ONE_LABEL
from resnetlab.errors import UserError, reason_of
from resnetlab.files import atomic_write, cache_home

_LABELS = ("cls", "txt", "json")
"""Endings of members that hold a label."""

_LARGEST_LABEL = 1 << 20


def is_shards(text: str) -> bool:
    """Whether a path is that of a shard, or a pattern of several."""
    return text.endswith(".tar")


@dataclass(frozen=True)
class Members:
    """Images that are members of tar files."""

    shards: tuple[Path, ...]
    keys: Names
    """paths within their shards"""
    places: np.ndarray
    """number of the shard, offset, bytes: int64 (n, 3)"""
    changed: np.ndarray
    """of each shard the time of its last change in ns, int64"""

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> bytes:
        shard, offset, size = self.places[index].tolist()
        path = self.shards[shard]
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise UserError(f"cannot read {path}: {reason_of(error)}.") from error
        if len(data) < size:
            raise UserError(
                f"cannot read {self.path_of(index)}: {path} ends before it; copy it anew."
            )
        return data

    def path_of(self, index: int) -> str:
        return f"{self.shards[self.places[index, 0]].name}/{self.keys[index]}"

    def stamps(self) -> np.ndarray:
        return np.stack([self.places[:, 2], self.changed[self.places[:, 0]]], axis=1)

    def chosen(self, indices: np.ndarray) -> Members:
        return Members(self.shards, self.keys.chosen(indices), self.places[indices], self.changed)


def read_shards(pattern: str) -> Collection:
    """The labelled images of the shards that a pattern names, in the order of names and members.

    Splits are what the names of the shards begin with: train-000.tar, val-000.tar. Raises UserError
    for missing or damaged shards, images without a label, and several labels an image.
    """
    shards = [Path(name) for name in expand(pattern)]
    if missing := [str(path) for path in shards if not path.is_file()]:
        raise UserError(f"`dataset` {pattern}: there is no file {some_of(missing)}.")
    twins = {path.name for path in shards}
    if len(twins) < len(shards):
        raise UserError(f"`dataset` {pattern}: two shards have the same name; rename one.")
    keys: list[str] = []
    labels: list[str] = []
    counts: list[int] = []
    places: list[np.ndarray] = []
    for number, path in enumerate(progress(shards, len(shards), "reading the shards' contents")):
        index = _index(path)
        keys += index["keys"]
        labels += index["labels"]
        counts.append(len(index["keys"]))
        own = np.array(index["places"], np.int64).reshape(-1, 2)
        places.append(np.insert(own, 0, number, axis=1))
    if not keys:
        raise UserError(f"`dataset` {pattern}: the shards hold no images.")
    splits = np.array([_split_of(path) for path in shards], np.int8)
    labels = _named(labels, shards[0].parent)
    names = sorted_classes(labels)
    numbers = {name: number for number, name in enumerate(names)}
    return Collection(
        name=shards[0].resolve().parent.name if len(shards) > 1 else shards[0].stem,
        place=pattern,
        samples=Members(
            tuple(shards),
            Names(keys),
            np.concatenate(places),
            np.array([path.stat().st_mtime_ns for path in shards], np.int64),
        ),
        names=names,
        labels=np.array([numbers[label] for label in labels], np.int64),
        splits=np.repeat(splits, counts),
    )


def expand(pattern: str) -> list[str]:
    """The paths of a pattern: {000..012} counts, {train,val} lists, * is what there is."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match:
        count = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
        if count:
            first, last = (int(number) for number in count.groups())
            parts = [f"{number:0{len(count[1])}}" for number in range(first, last + 1)]
        else:
            parts = match[1].split(",")
        ends = expand(pattern[match.end() :])
        return [f"{pattern[: match.start()]}{part}{end}" for part in parts for end in ends]
    if "*" in pattern or "?" in pattern:
        path = Path(pattern)
        return sorted(map(str, path.parent.glob(path.name))) or [pattern]
    return [pattern]


def _split_of(path: Path) -> int:
    """What the name of a shard begins with, as a split."""
    match = re.match(r"[A-Za-z]+", path.name)
    return SPLIT_NAMES.get(match[0].lower() if match else "", UNDIVIDED)


def _index(path: Path) -> dict[str, Any]:
    """Keys, labels and places (offset, bytes) of a shard's images; kept in the cache."""
    status = path.stat()
    identity = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    kept = (
        cache_home() / "shards" / f"{hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]}.json"
    )
    try:
        return json.loads(kept.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        pass  # there is none yet, or a damaged one
    index = _read_index(path)
    with atomic_write(kept) as temporary:
        temporary.write_text(json.dumps(index), encoding="utf-8", errors="surrogateescape")
    return index


def _read_index(path: Path) -> dict[str, Any]:
    index: dict[str, list[Any]] = {"keys": [], "labels": [], "places": []}
    try:
        with tarfile.open(path, "r:") as archive:
            files = (member for member in archive if member.isfile())
            for key, members in itertools.groupby(files, lambda member: _key(member.name)[0]):
                group = list(members)
                images = [
                    m for m in group if f".{_key(m.name)[1].split('.')[-1]}" in IMAGE_SUFFIXES
                ]
                if not images:
                    continue
                if len(images) > 1:
                    raise UserError(
                        f"{path}: the sample {key} has {len(images)} images; give it one."
                    )
                index["keys"].append(images[0].name)
                index["places"].append((images[0].offset_data, images[0].size))
                index["labels"].append(_label(archive, group, f"{path}: {key}"))
                archive.members = []  # type: ignore[attr-defined]  # else it remembers all of them
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read as a tar file: {reason_of(error)}; shards are plain tar files, "
            "not compressed."
        ) from error
    return index


def _key(name: str) -> tuple[str, str]:
    """What the members of a sample share, and the rest: a/0001 and seg.png of a/0001.seg.png."""
    folder, _, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, ending.lower()


def _label(archive: tarfile.TarFile, group: Sequence[tarfile.TarInfo], place: str) -> str:
    for ending in _LABELS:
        member = next((m for m in group if _key(m.name)[1].split(".")[-1] == ending), None)
        if member is None or member.size > _LARGEST_LABEL:
            continue
        file = archive.extractfile(member)
        text = file.read().decode("utf-8", "replace").strip() if file else ""
        labels = list(_labels_in(text, ending, place))
        if len(labels) > 1:
            raise UserError(f"{place} has {len(labels)} labels. {ONE_LABEL}")
        if labels and labels[0]:
            return labels[0]
    raise UserError(
        f"{place} has no label; put one beside the image: .cls (a number), .txt (a name) or .json "
        'with "label".'
    )


def _labels_in(text: str, ending: str, place: str) -> Iterator[str]:
    if ending == "cls":
        yield from re.split(r"[\s,;]+", text)
        return
    if ending == "txt":
        yield text
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: its .json is damaged: {error}.") from error
    if isinstance(value, dict):
        value = next((value[key] for key in ("label", "class", "cls") if key in value), None)
    if value is not None:
        yield from map(str, value if isinstance(value, list) else [value])


def _named(labels: list[str], folder: Path) -> list[str]:
    """Numbers as the names that a classes.txt beside the shards has in its lines."""
    file = folder / "classes.txt"
    if not file.is_file() or not all(label.isdecimal() for label in labels):
        return labels
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    largest = max(map(int, labels), default=0)
    if largest >= len(names):
        raise UserError(f"{file} names {len(names)} classes, and a label is {largest}.")
    return [names[int(label)] for label in labels]
