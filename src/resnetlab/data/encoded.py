"""A data set whose images are decoded when they are asked for, wherever their files lie."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from resnetlab.data.cache import Cache, Store
from resnetlab.data.crops import Crop, everything, part_of
from resnetlab.data.images import read_image, read_uncropped
from resnetlab.data.prefetch import in_threads
from resnetlab.errors import UserError, reason_of
from resnetlab.preprocessing import REDUCING_GAP, Preprocessing, open_image

PROBED = 16
"""Images, spread over a data set, that are looked at to guess how all of them are."""

LARGEST_OWN_SIZE = 256
"""Side in pixels up to which square images of one size are taken as they are."""

USUAL_SIZE = 224
USUAL = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.449,), (0.226,))}
"""ImageNet's mean and standard deviation, by which photographs are normalised; of a grey image,
those of its brightness."""


class Samples(Protocol):
    """The encoded images of a data set: files in a folder, members of tar shards, ..."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """An encoded image; UserError that names the file if it cannot be read."""
        ...

    def path_of(self, index: int) -> str:
        """What a sample is called within its data set, with slashes: a/b.jpg, or a.tar/b.jpg."""
        ...

    def stamps(self) -> np.ndarray:
        """Of each sample its bytes and the time of its last change in ns: int64 (n, 2)."""
        ...

    def chosen(self, indices: np.ndarray) -> Self:
        """Some of them, in that order."""
        ...


@dataclass(frozen=True, kw_only=True)
class EncodedDataset:
    """All that a source holds, or what a split takes of it; see ``Dataset``."""

    name: str
    split: str
    samples: Samples
    labels: Tensor
    """int64 (n,)"""
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    cache: Cache | None = None
    """where decoded images are kept; None: nowhere"""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        return False

    @property
    def channels(self) -> int:
        return self.preprocessing.channels

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of some samples: uint8 (n, channels, size, size), int64 (n,).

        Raises UserError that names the file of an image which cannot be read.
        """
        how, size, channels = self.preprocessing, self.preprocessing.size, self.channels
        view = {"view": "arranged", "size": size, "channels": channels, "resize": how.resize}
        view |= {"crop": how.crop, "interpolation": how.interpolation, "gap": REDUCING_GAP}
        view |= {"fill": how.mean} if how.crop == "letterbox" else {}
        store = self._store(view, slot=size * size * channels)
        images = torch.empty(len(indices), size, size, channels, dtype=torch.uint8)

        def add(place: int) -> None:
            images[place] = self._kept(
                store,
                int(indices[place]),
                lambda data, name: read_image(data, how, name=name).permute(1, 2, 0),
            )

        in_threads(add, range(len(indices)))
        return images.permute(0, 3, 1, 2), self.labels[indices]

    def uncropped(self, index: int, size: int, crop: Crop = everything) -> Tensor:
        """See ``Dataset``; raises UserError as ``batch`` does."""
        channels = self.channels
        view = {"view": "uncropped", "size": size, "channels": channels}
        # Images of up to three times their height fit; longer ones are decoded each time.
        store = self._store(view, slot=3 * size * size * channels)

        def decode(data: bytes, name: str) -> Tensor:
            return read_uncropped(data, size, channels, name=name)

        return self._kept(store, index, decode, crop)

    def _store(self, view: dict[str, Any], slot: int) -> Store | None:
        if self.cache is None:
            return None
        return self.cache.store(view, n=len(self.samples), slot=slot)

    def _kept(
        self,
        store: Store | None,
        index: int,
        decode: Callable[[bytes, str], Tensor],
        crop: Crop = everything,
    ) -> Tensor:
        """What is wanted of an image, uint8 (height, width, channels).

        It comes from the cache, or is decoded now and kept.
        """
        if store is not None and (pixels := store.get(index, crop)) is not None:
            return torch.from_numpy(pixels)
        image = decode(self.samples.read(index), self.samples.path_of(index))
        if store is not None:
            image = image.contiguous()
            store.put(index, image.numpy())
        return part_of(image, crop)

    def prepared(self, preprocessing: Preprocessing) -> EncodedDataset:
        return replace(self, preprocessing=preprocessing)


class Names:
    """Many short texts in one array: a list of them would take some ten times the memory."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [os.fsencode(text) for text in texts]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._bytes[self._ends[index] : self._ends[index + 1]])

    def chosen(self, indices: np.ndarray) -> Names:
        return Names(self[index] for index in indices)


@dataclass(frozen=True)
class Files:
    """Images that are files below one folder."""

    root: Path
    names: Names
    """paths relative to ``root``, with slashes"""

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        path = os.path.join(self.root, self.names[index])
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise UserError(f"cannot read {path}: {reason_of(error)}.") from error

    def path_of(self, index: int) -> str:
        return self.names[index]

    def stamps(self) -> np.ndarray:
        stamps = np.empty((len(self), 2), np.int64)
        for index in range(len(self)):
            path = self.root / self.names[index]
            try:
                status = path.stat()
            except OSError as error:
                raise UserError(f"cannot read {path}: {reason_of(error)}.") from error
            stamps[index] = status.st_size, status.st_mtime_ns
        return stamps

    def chosen(self, indices: np.ndarray) -> Files:
        return Files(self.root, self.names.chosen(indices))


def identity(samples: Samples) -> str:
    """SHA-256 over each sample's path, size in bytes and time of change, in their order.

    The images themselves are not read. It is another where a file was added, removed, renamed or
    written anew.
    """
    digest = hashlib.sha256()
    for index, (size, changed) in enumerate(samples.stamps().tolist()):
        digest.update(os.fsencode(f"{samples.path_of(index)}\0{size}\0{changed}\n"))
    return digest.hexdigest()


def fingerprint(dataset: EncodedDataset) -> str:
    """The same of a data set, with the class of each sample."""
    names = "\0".join((identity(dataset.samples), *dataset.classes))
    return hashlib.sha256(names.encode() + dataset.labels.numpy().tobytes()).hexdigest()


def usual_preprocessing(samples: Samples) -> Preprocessing:
    """How images are arranged and normalised where nobody has said so.

    Where most are squares of one size up to ``LARGEST_OWN_SIZE``, it is theirs; of others the
    shorter side becomes ``USUAL_SIZE`` pixels and a square is cut from the centre. Where all that
    are looked at are grey, so is the network's input.
    """
    spread = np.linspace(0, len(samples) - 1, min(PROBED, len(samples))).astype(int)
    sizes, modes = Counter(), set()
    for index in spread.tolist():
        try:
            with open_image(samples.read(index)) as image:
                sizes[image.size] += 1
                modes.add(image.mode)
        except Exception:  # whatever a broken file provokes; whoever reads it will say so
            continue
    [((width, height), count)] = sizes.most_common(1) or [((USUAL_SIZE, USUAL_SIZE), 1)]
    own = count >= 0.75 * sizes.total() and width == height <= LARGEST_OWN_SIZE
    grey = modes and modes <= {"1", "L", "I", "I;16", "I;16B", "F"}
    mean, std = USUAL[1 if grey else 3]
    return Preprocessing(mean=mean, std=std, size=width if own else USUAL_SIZE)


def some_of(names: Sequence[str], some: int = 3) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    more = f" and {len(names) - some:,} more" if len(names) > some else ""
    return ", ".join(map(str, names[:some])) + more
