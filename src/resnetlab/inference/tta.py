"""Test-time augmentation: the logits of several views of each image, averaged."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from resnetlab.inference.backends import Backend

TTA = Literal["none", "flip", "flip-shift"]
"""The views: the image alone; it and its mirror image; these and both of them shifted by a pixel,
up and left or down and right (together the shifted ones count as much as the others), as in
airbench (Jordan 2024, https://arxiv.org/abs/2404.00498)."""


def logits_with_tta(backend: Backend, images: Tensor, tta: TTA) -> Tensor:
    """uint8 (n, channels, size, size) -> the mean over the views, fp32 (n, classes)."""
    if tta == "none":
        return backend.logits(images)
    logits = _with_mirror_image(backend, images)
    if tta == "flip":
        return logits
    shifted = sum(_with_mirror_image(backend, _shifted(images, by)) for by in (-1, 1))
    return logits / 2 + shifted / 4


def _with_mirror_image(backend: Backend, images: Tensor) -> Tensor:
    return (backend.logits(images) + backend.logits(images.flip(3))) / 2


def _shifted(images: Tensor, by: Literal[-1, 1]) -> Tensor:
    """Pixel (y, x) is the image's (y + by, x + by); beyond its edges it is reflected."""
    rows, columns = (_reflected(side, by) for side in images.shape[2:])
    return images[:, :, rows][:, :, :, columns]


def _reflected(side: int, by: int) -> Tensor:
    """by, by + 1, ... as ``side`` indices within 0..side - 1, the edge pixel not repeated."""
    indices = torch.arange(by, side + by).abs()
    return torch.where(indices < side, indices, 2 * (side - 1) - indices)
