"""The 15 common corruptions at five severities (Hendrycks and Dietterich 2019, arXiv:1903.12261).

Every image draws from a generator of its own, so that what happens to it depends on the seed and
its number in the split alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetlab.evaluation import corrupting as by
from resnetlab.evaluation.corrupting import Draws

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 64
"""Images up to this side are corrupted as CIFAR-10-C is, larger ones as ImageNet-C: of a blur over
20 pixels nothing would be left at 32."""


def corrupt(
    images: Tensor, name: str, severity: int, numbers: Sequence[int], *, seed: int = 0
) -> Tensor:
    """uint8 (n, 1 or 3, h, w) -> the same shape, corrupted.

    Args:
        images: As a network sees them, before they are normalised.
        name: One of ``CORRUPTIONS``.
        severity: 1 to 5.
        numbers: Of the images in their split: what is drawn for an image follows from its number.
        seed: Likewise.
    """
    draws = Draws.seeded(numbers, name, severity, seed=seed)
    return apply(images, name, severity, draws)


def apply(images: Tensor, name: str, severity: int, draws: Draws) -> Tensor:
    """``corrupt`` with given draws."""
    function, small, large = CORRUPTIONS[name]
    values = (small if max(images.shape[2:]) <= SMALL else large)[severity - 1]
    arguments = values if isinstance(values, tuple) else (values,)
    x = np.ascontiguousarray(images.numpy(), np.float32) / 255
    corrupted = function(x, draws, *arguments)
    return torch.from_numpy((corrupted.clip(0, 1) * 255 + 1e-4).astype(np.uint8))


CORRUPTIONS: dict[str, tuple[Callable[..., by.Batch], tuple[Any, ...], tuple[Any, ...]]] = {
    "gaussian_noise": (
        by.gaussian_noise,
        (0.04, 0.06, 0.08, 0.09, 0.1),
        (0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "shot_noise": (by.shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": (
        by.impulse_noise,
        (0.01, 0.02, 0.03, 0.05, 0.07),
        (0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    "defocus_blur": (
        by.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": (
        by.glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": (
        by.motion_blur,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": (
        by.zoom_blur,
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": (
        by.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": (
        by.frost,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "fog": (
        by.fog,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": (by.brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (by.contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": (
        by.elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        tuple((strength, 0.01, 0) for strength in (0.0625, 0.08125, 0.10625, 0.125, 0.15)),
    ),
    "pixelate": (by.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": (by.jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
"""By name: the function, and its numbers at severities 1 to 5 for small images (CIFAR-10-C) and for
large ones (ImageNet-C)."""
