"""Every image of a collection decoded once: what can be read, how large it is, what it looks like.

Kept in the cache until a file changes, since to look at 1,000 photographs takes half a minute.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import scipy.fft
from PIL import Image

from resnetlab.console import Report, progress
from resnetlab.data.collection import Collection
from resnetlab.data.encoded import Samples, identity, some_of
from resnetlab.data.images import read_image
from resnetlab.data.prefetch import in_threads
from resnetlab.errors import UserError, reason_of
from resnetlab.files import atomic_write, cache_home, locked
from resnetlab.preprocessing import Preprocessing, decode, open_image

FORMAT = 1
"""Of what is kept."""

HASHED_SIDE = 64
"""Pixels; of a larger JPEG the decoder makes an image of at least this side, many times faster."""

THUMB_SIDE = 8
_ORIENTATION = 0x0112
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was seen, sample by sample; zeros where an image cannot be read."""

    faults: np.ndarray
    """why an image cannot be read; "" where it can: text (n,)"""
    digests: np.ndarray
    """of the files' bytes: uint64 (n, 2)"""
    hashes: np.ndarray
    """perceptual hash of the upright image (that of the package ImageHash): uint64 (n,)"""
    thumbs: np.ndarray
    """uint8 (n, 8, 8, 3)"""
    sizes: np.ndarray
    """width and height as stored: int32 (n, 2)"""
    turned: np.ndarray
    """the orientation that EXIF states, 1 for upright: uint8 (n,)"""
    grey: np.ndarray
    """stored with one channel, or in colour without any: bool (n,)"""

    def chosen(self, indices: np.ndarray) -> Survey:
        return Survey(**{f.name: getattr(self, f.name)[indices] for f in fields(self)})


def survey(samples: Samples, name: str) -> Survey:
    """Look at every image, or at what was kept of the last look."""
    kept = cache_home() / "surveys" / f"{identity(samples)[:32]}-{FORMAT}.npz"
    if (known := _read(kept, len(samples))) is not None:
        return known
    kept.parent.mkdir(parents=True, exist_ok=True)
    with locked(kept.with_suffix(".lock"), lambda: None):
        if (known := _read(kept, len(samples))) is not None:  # another process has done it
            return known
        found = _look(samples, name)
        with atomic_write(kept) as temporary:
            np.savez(temporary, **{f.name: getattr(found, f.name) for f in fields(found)})
    kept.with_suffix(".lock").unlink(missing_ok=True)
    return found


def refuse_unreadable(found: Survey, samples: Samples, place: object) -> None:
    """UserError if an image cannot be read."""
    (bad,) = np.nonzero(found.faults != "")
    if len(bad):
        raise UserError(
            f"{place}: {len(bad):,} of {len(found.faults):,} images cannot be read "
            f"({some_of([f'{samples.path_of(i)}: {found.faults[i]}' for i in bad.tolist()])}); "
            "repair or remove them, or leave them out: `on_bad_image` skip."
        )


MOST_SKIPPED = 0.01
"""Share of the images that may be left out; more than that is not bad luck."""


def readable(whole: Collection, report: Report) -> Collection:
    """The images that can be read, and the list of those that cannot.

    Raises UserError where these are more than ``MOST_SKIPPED`` (of fewer than 1,000 images, ten).
    """
    found = survey(whole.samples, whole.name)
    bad = found.faults != ""
    most = max(10, int(MOST_SKIPPED * len(bad)))
    if not bad.any():
        return whole
    if bad.sum() > most:
        raise UserError(
            f"{whole.place}: {bad.sum():,} of {len(bad):,} images cannot be read, more than the "
            f"{most:,} that `on_bad_image` skip leaves out; see `resnetlab data check`."
        )
    skipped = [
        (whole.samples.path_of(i), str(found.faults[i])) for i in np.nonzero(bad)[0].tolist()
    ]
    report(f"{whole.place}: left out {some_of([f'{path} ({why})' for path, why in skipped])}")
    return replace(whole.chosen(np.nonzero(~bad)[0]), skipped=tuple(skipped))


def _read(path: Path, n: int) -> Survey | None:
    try:
        with np.load(path, allow_pickle=False) as values:
            found = Survey(**{f.name: values[f.name] for f in fields(Survey)})
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return found if len(found.faults) == n else None


def _look(samples: Samples, name: str) -> Survey:
    n = len(samples)
    faults: list[str] = []
    digests = np.zeros((n, 2), np.uint64)
    hashes = np.zeros(n, np.uint64)
    thumbs = np.zeros((n, THUMB_SIDE, THUMB_SIDE, 3), np.uint8)
    sizes = np.zeros((n, 2), np.int32)
    turned = np.ones(n, np.uint8)
    grey = np.zeros(n, bool)
    chunks = range(0, n, _CHUNK)
    for start in progress(chunks, len(chunks), f"looking at every image of {name}"):
        indices = range(start, min(start + _CHUNK, n))
        seen = in_threads(lambda index: _look_at(samples, index), indices)
        plains = np.stack([view.plain for view in seen])
        hashes[start : indices.stop] = perceptual_hashes(plains)
        for index, view in zip(indices, seen, strict=True):
            faults.append(view.fault)
            digests[index] = view.digest
            thumbs[index] = view.thumb
            sizes[index], turned[index], grey[index] = view.size, view.turned, view.grey
            if view.fault:
                hashes[index] = 0
    return Survey(
        faults=np.array(faults),
        digests=digests,
        hashes=hashes,
        thumbs=thumbs,
        sizes=sizes,
        turned=turned,
        grey=grey,
    )


@dataclass(frozen=True, kw_only=True)
class _View:
    """One image."""

    fault: str = ""
    digest: np.ndarray
    plain: np.ndarray
    """grey, 32 x 32"""
    thumb: np.ndarray
    size: tuple[int, int] = (0, 0)
    turned: int = 1
    grey: bool = False


def _look_at(samples: Samples, index: int) -> _View:
    nothing = {
        "digest": np.zeros(2, np.uint64),
        "plain": np.zeros((32, 32), np.uint8),
        "thumb": np.zeros((THUMB_SIDE, THUMB_SIDE, 3), np.uint8),
    }
    try:
        data = samples.read(index)
    except UserError as error:
        return _View(fault=str(error), **nothing)
    if not data:
        return _View(fault="the file is empty", **nothing)
    try:
        with open_image(data) as image:
            size, orientation = image.size, image.getexif().get(_ORIENTATION, 1)
            image.draft("RGB", (HASHED_SIDE, HASHED_SIDE))
            image.load()
            upright = decode(image, 3)
    except Exception as error:  # decoders raise whatever a broken file provokes
        return _View(fault=_fault(data, error), **nothing)
    small = upright.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
    thumb = np.asarray(small)
    plain = upright.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    return _View(
        digest=np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint64),
        plain=np.asarray(plain),
        thumb=thumb,
        size=size,
        turned=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
        grey=_is_grey(upright),
    )


def _fault(data: bytes, error: Exception) -> str:
    """In the words that reading the image would be refused with."""
    try:
        read_image(data, Preprocessing(mean=(0.5,), std=(0.5,), size=8), name="it")
    except UserError as refusal:
        return str(refusal).removeprefix("cannot read it: ").rstrip(".")
    return reason_of(error)


def _is_grey(image: Image.Image) -> bool:
    """Whether the three channels are alike, but for what JPEG does to them."""
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX)).astype(np.int16)
    return bool((small.max(2) - small.min(2)).max() <= 4)


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """Of grey images, uint8 (n, 32, 32): ImageHash's ``phash`` as uint64 (n,).

    Its first bit is the highest. An image that is alike has a hash that differs in few bits.
    """
    rows = np.asarray(scipy.fft.dctn(images.astype(np.float64), axes=(1, 2)))
    low = rows[:, :8, :8].reshape(len(images), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()
