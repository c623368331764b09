"""Where the bytes of a data set come from: the cache, the user's files, official hosts, mirrors.

Whatever the source, pixels and labels are checked against its SHA-256 digests before they are
stored, and again at each load (0.1 s for CIFAR-10): no wrong, half-written or decayed file
gets into a result. The cache is a folder for each set with train.safetensors and
test.safetensors, each holding `images` (n, h, w, c) or (n, h, w) and `labels` (n,), all uint8.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from resnetlab.console import Report, print_to_stderr, waiting
from resnetlab.data import download, formats
from resnetlab.data.formats import Arrays
from resnetlab.data.sampling import stratified_indices
from resnetlab.errors import UserError, reason_of
from resnetlab.files import cache_home, locked, reading, write_json

DIGESTS = "digests.json"


class DataUnavailable(UserError):
    """No source has the data set; the message says what was tried and how to place it by hand."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The published files of a data set."""

    name: str
    """of its folder in the cache"""
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the raw bytes in C order, by the keys of `Arrays`; none where `read` checks the
    published files themselves: then those of what it has read are kept beside the arrays."""
    read: Callable[[Path], Arrays] | None = None
    """Reads the published files out of a folder."""
    urls: tuple[str, ...] = ()
    download_bytes: int = 0
    mirrors: Mapping[str, Callable[[Path], Arrays]] = field(default_factory=dict)
    """What to call it, and a function that fetches into an empty folder and reads."""
    cut_from: Source | None = None
    """The set of which this one is the first images, class by class ..."""
    cut_sizes: tuple[int, int] = (0, 0)
    """... and how many, for training and test."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of "train" and "test" that are published."""
        named = self.digests or {"train_images": "", "test_images": ""}
        return tuple(s for s in ("train", "test") if f"{s}_images" in named)


def fetch(
    source: Source, *, data_dir: Path | None = None, report: Report = print_to_stderr
) -> Path:
    """Make sure that the data set is at hand, and return its verified folder.

    A `data_dir` must hold the files, in torchvision's layout or in the cache's; without one the
    official host and then the mirrors are tried. Safe to repeat, to interrupt and to run twice
    at once. Raises UserError for damaged files, no permission or no space, and DataUnavailable
    where no source has the files.
    """
    name, folder = source.name, cache_home() / source.name
    if data_dir is not None:
        with reading(data_dir):
            stored = (data_dir / name / "train.safetensors").exists()
        if stored:
            _read_both(source, data_dir / name)
            return data_dir / name
        if source.read:  # even if the cache has the set: an explicit folder is never ignored
            arrays = _from_data_dir(source, source.read, data_dir)
            return _store(source, folder, lambda _: arrays, report)
    elif _is_verified(source, folder):
        return folder
    elif folder.joinpath("train.safetensors").exists():
        report(f"{name}: the files in {folder} are damaged or incomplete; fetching again")
    if source.cut_from:
        full = fetch(source.cut_from, data_dir=data_dir, report=report)
        return _store(source, folder, lambda _: _cut(source, full), report)
    return _store(source, folder, lambda partial: _from_network(source, partial, report), report)


def load_split(
    source: Source, split: str, *, data_dir: Path | None = None, report: Report = print_to_stderr
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of "train" or "test", verified; fetched first if they are not at hand."""
    if data_dir is None:
        try:
            return read_split(source, split, cache_home() / source.name)
        except UserError:
            pass  # absent or damaged: fetch knows what to do about it
    return read_split(source, split, fetch(source, data_dir=data_dir, report=report))


def read_split(source: Source, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels out of a folder of the cache's layout; UserError unless they verify."""
    path = folder / f"{split}.safetensors"
    with waiting(f"reading and verifying {source.name}, {split}"):
        with formats.naming(path):
            arrays = safetensors.numpy.load_file(path)
        keyed = {f"{split}_{kind}": array for kind, array in arrays.items()}
        _check(source, keyed, split, str(path), source.digests or _kept_digests(folder))
    return arrays["images"], arrays["labels"]


def _check(
    source: Source,
    arrays: Arrays,
    split: str,
    origin: str,
    digests: Mapping[str, str] | None = None,
) -> None:
    """UserError unless the arrays of a split are byte for byte those of the digests."""
    for key, digest in (source.digests if digests is None else digests).items():
        if key.startswith(split):
            found = arrays.get(key)
            if (
                found is None
                or hashlib.sha256(np.ascontiguousarray(found).data).hexdigest() != digest
            ):
                raise UserError(
                    f"{origin}: {key} of {source.name} differ from the published ones "
                    "(wrong SHA-256)"
                )


def _kept_digests(folder: Path) -> dict[str, str]:
    """Those of the arrays in a folder of the cache, written when their source was checked."""
    with formats.naming(folder / DIGESTS):
        return json.loads((folder / DIGESTS).read_text())


def digests_of(arrays: Arrays) -> dict[str, str]:
    return {
        key: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        for key, array in arrays.items()
    }


def _read_both(source: Source, folder: Path) -> None:
    for split in source.splits:
        read_split(source, split, folder)


def _is_verified(source: Source, folder: Path) -> bool:
    try:
        _read_both(source, folder)
    except UserError:
        return False
    return True


def _from_data_dir(source: Source, read: Callable[[Path], Arrays], data_dir: Path) -> Arrays:
    with waiting(f"reading and verifying {source.name} in {data_dir}"):
        try:
            arrays = read(data_dir)
        except FileNotFoundError as error:
            raise DataUnavailable(str(error)) from None
        for split in source.splits:
            _check(source, arrays, split, str(data_dir))
    return arrays


def _cut(source: Source, folder: Path) -> Arrays:
    """The first images of a full set, equally many of each class."""
    assert source.cut_from
    arrays = {}
    for split, size in zip(source.splits, source.cut_sizes, strict=True):
        images, labels = read_split(source.cut_from, split, folder)
        chosen = stratified_indices(torch.from_numpy(labels).long(), size).numpy()
        arrays |= {f"{split}_images": images[chosen], f"{split}_labels": labels[chosen]}
    return arrays


def _from_network(source: Source, partial: Path, report: Report) -> Arrays:
    """The arrays of the first source that delivers them, right to the last byte."""
    name = source.name

    def official(folder: Path) -> Arrays:
        assert source.read
        download.download(source.urls, folder, total_bytes=source.download_bytes)
        with waiting(f"reading {name}"):
            return source.read(folder)

    def from_mirror(label: str, get: Callable[[Path], Arrays]) -> Callable[[Path], Arrays]:
        def attempt(folder: Path) -> Arrays:
            with waiting(f"fetching {name} from the {label}"):
                return get(folder)

        return attempt

    host = source.urls[0].split("/")[2]
    failures = []
    mirrors = {label: from_mirror(label, get) for label, get in source.mirrors.items()}
    for label, attempt in {f"official host {host}": official, **mirrors}.items():
        report(f"{name}: trying the {label}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            arrays = attempt(partial)
            for split in source.splits:
                _check(source, arrays, split, label)
            return arrays
        except (OSError, UserError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # no other source would fit either
            failures.append(f"the {label}: {reason_of(error)}")
            report(f"{name}: {failures[-1]}")
    raise DataUnavailable(
        f"no source of {name} could be used ({'; '.join(failures)}); to place the files by hand, "
        f"download {' '.join(source.urls)} on any machine and run the command with `data_dir` "
        "FOLDER, the folder that holds them."
    )


def _store(source: Source, folder: Path, get: Callable[[Path], Arrays], report: Report) -> Path:
    """Write what `get` returns to the cache, whole or not at all, one process at a time.

    `get` receives the path of a folder for its temporary files, removed in the end.
    """
    name, partial = source.name, folder / "partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock", lambda: report(f"{name}: waiting for another process")):
            if _is_verified(source, folder):  # that process has done it
                return folder
            try:
                arrays = get(partial)
                if not source.digests:
                    write_json(folder / DIGESTS, digests_of(arrays))
                for split in source.splits:
                    _check(source, arrays, split, name)
                    content = {kind: arrays[f"{split}_{kind}"] for kind in ("images", "labels")}
                    temporary = folder / f"{split}.partial"
                    temporary.write_bytes(safetensors.numpy.save(content))
                    temporary.replace(folder / f"{split}.safetensors")
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                for temporary in folder.glob("*.partial"):
                    temporary.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {reason_of(error)}; make room or set "
            "RESNETLAB_HOME to another folder"
        ) from error
    report(f"{name}: verified and stored in {folder}")
    return folder
