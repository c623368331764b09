"""Decoded images, each decoded once: in files of one folder, or in memory.

A file on the disk has a slot of fixed size for each image, so that threads and processes write
without waiting for each other: whoever decodes an image writes the same bytes. It is read with
pread, not mapped: mapped pages would count as memory of the process, and a full disk would kill it.
What was never written takes no room (the file is sparse).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import weakref
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL
import simplejpeg
from PIL import features

from resnetlab.console import Report, print_to_stderr
from resnetlab.data.crops import Crop, everything, part_of
from resnetlab.errors import UserError, reason_of
from resnetlab.files import cache_home, user_path, write_json

FOLDER = "pixels"
"""Of the caches, in the cache of data sets or in the folder that a user names."""
_ABOUT, _PIXELS, _INDEX = "about.json", "pixels.bin", "index.bin"
_FORMAT = 2
_ENTRY = np.dtype([("height", "<u4"), ("width", "<u4"), ("sum", "<u8")])
"""What index.bin says of each image; a height of 0: it has not been decoded yet."""

_CHUNK = 64 * 2**20
"""Bytes that images in memory are given at a time. NumPy asks for large pages for so many, and
these fault less often: an image of 360 kB takes a quarter of the time of one on its own."""


class Store(Protocol):
    """Where the pixels of the images of one data set are kept, uint8 (height, width, channels)."""

    def get(self, index: int, crop: Crop = everything) -> np.ndarray | None:
        """A part of an image, which nobody may change.

        None if the image is not there, or not as it was written.
        """
        ...

    def put(self, index: int, pixels: np.ndarray) -> None: ...


class Cache:
    """The decoded images of one source, in as many views as its data sets have.

    Args:
        source: What the images are known by; see ``fingerprint``.
        folder: Where they are kept on the disk, in a folder of their own; None: in memory.
        report: Is told once if the disk is full.
    """

    def __init__(self, source: str, folder: Path | None, report: Report = print_to_stderr) -> None:
        self.folder = folder / source[:16] if folder is not None else None
        self._source, self._report = source, report
        self._stores: dict[Hashable, Store] = {}
        self._opening = threading.Lock()

    def store(self, view: Mapping[str, Any], *, n: int, slot: int) -> Store:
        """Where the images of one view are kept: ``n`` of them, of at most ``slot`` bytes each.

        ``view`` is whatever else the pixels depend on, "channels" among it.
        """
        key = (*view.items(), n, slot)
        with self._opening:
            if key not in self._stores:
                self._stores[key] = self._open(view, n, slot)
            return self._stores[key]

    def _open(self, view: Mapping[str, Any], n: int, slot: int) -> Store:
        if self.folder is None:
            return MemoryStore()
        turbo = features.version_feature("libjpeg_turbo")
        decoder = f"Pillow {PIL.__version__}, libjpeg-turbo {turbo}"
        decoder += f", simplejpeg {simplejpeg.__version__}"
        about = {"format": _FORMAT, "source": self._source, "decoder": decoder, **view}
        key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
        folder, channels = self.folder / key, view["channels"]
        return FileStore(folder, about, n=n, slot=slot, channels=channels, report=self._report)

    @property
    def used(self) -> int:
        """Bytes that are taken on the disk."""
        return disk_usage(self.folder) if self.folder is not None else 0

    def remove(self) -> None:
        """Take back what has been kept."""
        self._stores.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def pixel_folder(named: str | Path | None) -> Path:
    """The folder of all caches in the one that a user names; by default the cache of data sets."""
    return (user_path(named).absolute() if named else cache_home()) / FOLDER


def clean_pixels(cache: str | Path | None = None) -> int:
    """Remove the decoded images that trainings have kept; the bytes that are free now.

    ``cache`` is the folder that was given to ``train``; by default, the cache of data sets.
    Nothing else is touched. A training that uses them goes on. Raises UserError for files that
    cannot be removed.
    """
    folder, freed = pixel_folder(cache), 0
    for about in sorted(folder.glob(f"*/*/{_ABOUT}")):
        freed += disk_usage(about.parent)
        try:
            shutil.rmtree(about.parent)
        except OSError as error:
            raise UserError(f"cannot remove {about.parent}: {reason_of(error)}.") from error
    for emptied in (*folder.glob("*"), folder):
        with contextlib.suppress(OSError):  # of what holds other files, or is not there
            emptied.rmdir()
    return freed


def disk_usage(folder: Path) -> int:
    """Bytes that the files in a folder take on the disk: of sparse ones, what was written."""
    return sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


class MemoryStore:
    """In the memory of this process."""

    def __init__(self) -> None:
        self._images: dict[int, np.ndarray] = {}
        self._free = np.empty(0, np.uint8)
        self._taking = threading.Lock()

    def get(self, index: int, crop: Crop = everything) -> np.ndarray | None:
        image = self._images.get(index)
        return None if image is None else part_of(image, crop)

    def put(self, index: int, pixels: np.ndarray) -> None:
        with self._taking:
            if pixels.size > self._free.size:
                self._free = np.empty(max(_CHUNK, pixels.size), np.uint8)
            taken, self._free = self._free[: pixels.size], self._free[pixels.size :]
        kept = taken.reshape(pixels.shape)
        kept[...] = pixels
        self._images[index] = kept


class FileStore:
    """In a folder.

    Args:
        folder: Made if it is not there.
        about: What the pixels depend on; kept beside them, for people.
        n: Images.
        slot: Bytes of the largest image that is kept; larger ones are not.
        channels: Of an image.
        report: Is told once if the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        *,
        n: int,
        slot: int,
        channels: int,
        report: Report,
    ) -> None:
        write_json(folder / _ABOUT, dict(about))
        self._pixels = self._opened(folder / _PIXELS)
        self._index = self._opened(folder / _INDEX)
        self._folder, self._slot, self._channels, self._report = folder, slot, channels, report
        self._checked = np.zeros(n, _ENTRY)
        self._full = threading.Event()

    def get(self, index: int, crop: Crop = everything) -> np.ndarray | None:
        height, width, _ = self._checked[index].item()
        if height:
            box = crop(height, width)
            rows = self._read(index, box.top, box.height, width)
            return rows if rows is None else rows[:, box.left : box.left + box.width]
        entry = self._read_entry(index)
        height, width, total = entry.item()
        image = self._read(index, 0, height, width)
        if image is None or _sum(image) != total:
            return None
        self._checked[index] = entry
        return part_of(image, crop)

    def _read(self, index: int, top: int, height: int, width: int) -> np.ndarray | None:
        """Some rows of an image; None if they are not there."""
        row = width * self._channels
        if not 0 < (top + height) * row <= self._slot:
            return None
        rows = np.empty((height, width, self._channels), np.uint8)
        try:
            read = os.preadv(self._pixels, [rows.data], index * self._slot + top * row)
        except OSError:  # of a disk that fails
            return None
        return rows if read == rows.nbytes else None

    def put(self, index: int, pixels: np.ndarray) -> None:
        if self._full.is_set() or pixels.nbytes > self._slot:
            return
        height, width, _ = pixels.shape
        entry = np.array((height, width, _sum(pixels)), _ENTRY)
        try:
            self._write(self._pixels, pixels, index * self._slot)
            self._write(self._index, entry, index * _ENTRY.itemsize)
        except OSError as error:
            if not self._full.is_set():
                self._full.set()
                self._report(
                    f"cannot write to the cache of pixels in {self._folder} "
                    f"({reason_of(error)}): images that are not in it are decoded in each epoch"
                )
            return
        self._checked[index] = entry

    def _read_entry(self, index: int) -> np.void:
        raw = os.pread(self._index, _ENTRY.itemsize, index * _ENTRY.itemsize)
        return np.frombuffer(raw.ljust(_ENTRY.itemsize, b"\0"), _ENTRY)[0]

    def _opened(self, path: Path) -> int:
        """A file for reading and writing, closed when nobody uses the store any more."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        weakref.finalize(self, os.close, file)
        return file

    @staticmethod
    def _write(file: int, values: np.ndarray, offset: int) -> None:
        left = values.reshape(-1).view(np.uint8)
        while len(left):  # of a disk that is nearly full, only a part is taken
            written = os.pwrite(file, left.data, offset)
            left, offset = left[written:], offset + written


def _sum(pixels: np.ndarray) -> int:
    """Of all bytes, eight at a time, modulo 2**64.

    It tells lost pages and flipped bits, and takes an eighth of the time of a CRC-32.
    """
    flat = pixels.reshape(-1)
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    return (int(words.sum()) + int(flat[words.nbytes :].sum())) % 2**64
