"""Parts of images: which pixels of an image are wanted, said before they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from torch import Tensor

Pixels = TypeVar("Pixels", np.ndarray, Tensor)


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


Crop = Callable[[int, int], Box]
"""Of an image's height and width, the part of it that is wanted: each time the same."""

RATIOS = 3 / 4, 4 / 3
"""Least and greatest width of a random crop, in its heights: torchvision's defaults."""

TRIES = 10
DRAWS = 4 * TRIES
"""Numbers that ``random_box`` may need."""


def everything(height: int, width: int) -> Box:
    """All of an image."""
    return Box(0, 0, height, width)


def part_of(image: Pixels, crop: Crop) -> Pixels:
    """What is wanted of an image (height, width, ...), without a copy."""
    top, left, height, width = crop(*image.shape[:2])
    return image[top : top + height, left : left + width]


def random_box(draws: Sequence[float], smallest: float, height: int, width: int) -> Box:
    """A part of a random size, shape and place: torchvision's RandomResizedCrop.

    (Szegedy et al., arXiv 1409.4842, train on such.) Its arithmetic without its tensors of one
    number, each of which keeps other threads from Python's lock.

    Args:
        draws: ``DRAWS`` numbers, uniform in 0 to 1, without 1.
        smallest: Share of the image's area that the part has at least, but for its rounding.
        height: Of the image, in pixels.
        width: Likewise.
    """
    lowest, highest = map(math.log, RATIOS)
    numbers = iter(draws)
    for size, shape, down, right in zip(*[numbers] * 4, strict=True):
        area = height * width * (smallest + (1 - smallest) * size)
        ratio = math.exp(lowest + (highest - lowest) * shape)
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return Box(int(down * (height - h + 1)), int(right * (width - w + 1)), h, w)
    w = min(width, round(height * RATIOS[1]))
    h = min(height, round(width / RATIOS[0]))
    return Box((height - h) // 2, (width - w) // 2, h, w)
