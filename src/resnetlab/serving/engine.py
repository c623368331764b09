"""A trained network as the service sees it: encoded images in, probabilities and heat maps out.

numpy at this door, so that what serves need not have torch.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from resnetlab.compute.machine import return_memory
from resnetlab.preprocessing import FORMATS, Preprocessing

Box = tuple[float, float, float, float]
"""left, top, right, bottom, as shares of an image's width and height"""

_LARGE = 12 * 10**6
"""Pixels from which an image may take hundreds of megabytes while it is decoded."""

_ORIENTATION = 0x0112
"""EXIF's tag; from 5 on, width and height change places"""


class Network(Protocol):
    """What computes: PyTorch, or a runtime without it."""

    name: str
    """what computes it and how, in words"""
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    threshold: float | None
    """the probability below which the prediction is "none of these"; None: there is none"""
    batch_size: int
    """images at once"""

    def read(self, data: bytes) -> np.ndarray:
        """Encoded bytes -> uint8 (channels, size, size); UserError if they cannot be read."""
        ...

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, channels, size, size) -> (n, classes)"""
        ...

    def class_maps(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Evidence for a class of each image, (n, h, w); None if this network gives none."""
        ...


@dataclass(frozen=True)
class Picture:
    """One image, decoded."""

    pixels: np.ndarray
    """uint8 (channels, size, size)"""
    box: Box | None = None
    """the part of the image that the network sees, where a heat map is asked for"""


@dataclass(frozen=True)
class Answer:
    """What the network says of one image."""

    probabilities: np.ndarray | None
    """(classes,), float64, after the temperature; None if the network's outputs are not finite"""
    heat_map: np.ndarray | None = None
    """(h, w) from 0 to 1: evidence for the likeliest class, where it was asked for"""
    box: Box | None = None
    """of the heat map"""


class Engine:
    """Reads and computes with one network; ``read`` in many threads, ``compute`` in one."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._large = threading.Lock()
        size, channels = network.preprocessing.size, network.preprocessing.channels
        blank = Picture(np.zeros((channels, size, size), np.uint8), box=(0, 0, 1, 1))
        (answer,) = self.compute([blank])  # also so that the first client does not wait for it
        self.gives_heat_maps = answer.heat_map is not None

    def read(self, data: bytes, *, heat_map: bool = False) -> Picture:
        """Decode an image, of large ones one at a time; UserError if it cannot be read."""
        size = _upright_size(data)
        with self._alone() if size and size[0] * size[1] > _LARGE else nullcontext():
            pixels = self.network.read(data)
        seen = self.network.preprocessing.seen
        return Picture(pixels, seen(*size) if heat_map and size else None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One image at a time, whose memory does not stay with the process."""
        with self._large:
            try:
                yield
            finally:
                return_memory()

    def compute(self, pictures: Sequence[Picture]) -> list[Answer]:
        """One answer for each picture, with a heat map for those that have a box."""
        images = np.stack([picture.pixels for picture in pictures])
        logits = self.network.logits(images).astype(np.float64)
        finite = np.asarray(np.isfinite(logits).all(axis=1))
        scaled = np.where(finite[:, None], logits, 0) / self.network.temperature
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        maps: dict[int, np.ndarray] = {}
        mapped = [i for i, picture in enumerate(pictures) if picture.box and finite[i]]
        if mapped:
            computed = self.network.class_maps(images[mapped], probabilities[mapped].argmax(1))
            if computed is not None:
                maps = dict(zip(mapped, map(_from_0_to_1, computed), strict=True))
        return [
            Answer(
                probabilities[i] if finite[i] else None,
                maps.get(i),
                picture.box if i in maps else None,
            )
            for i, picture in enumerate(pictures)
        ]


def _upright_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of an image by its header; None where that says nothing."""
    Image.init()  # registers the formats
    try:
        with Image.open(io.BytesIO(data), formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            width, height = image.size
            with suppress(Exception):  # of damaged EXIF, Pillow raises whatever the damage provokes
                if image.getexif().get(_ORIENTATION, 1) >= 5:
                    return height, width
            return width, height
    except Exception:  # reading it will say why
        return None


def _from_0_to_1(evidence: np.ndarray) -> np.ndarray:
    """Evidence for the class alone, its largest value 1 (0 everywhere if there is none)."""
    positive = np.maximum(evidence, 0)
    return positive / max(float(positive.max()), np.finfo(np.float32).tiny)
