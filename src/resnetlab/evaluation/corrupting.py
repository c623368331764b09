"""Each of the common corruptions of images, over whole batches; ``corruptions`` has their numbers.

Frost is a texture of ours: the six photographs of the original are not ours to ship.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from resnetlab.seeding import fold_in

Batch = np.ndarray
"""fp32 (n, channels, height, width), of pixels scaled to 0..1"""


class Draws:
    """A generator an image; each draw is an array with the images in front."""

    def __init__(self, generators: Sequence[Any]) -> None:
        self.generators = generators

    @classmethod
    def seeded(cls, numbers: Sequence[int], *purpose: int | str, seed: int = 0) -> Draws:
        """For the images of these numbers in their split."""
        return cls([np.random.default_rng(fold_in(seed, i, *purpose)) for i in numbers])

    def __getattr__(self, name: str) -> Callable[..., np.ndarray]:
        def draw(*arguments: Any, **options: Any) -> np.ndarray:
            return np.stack([getattr(g, name)(*arguments, **options) for g in self.generators])

        return draw


def gaussian_noise(x: Batch, draws: Draws, deviation: float) -> Batch:
    return x + _pixels_first(draws.normal(0.0, deviation, _pixel_shape(x)))


def shot_noise(x: Batch, draws: Draws, photons: float) -> Batch:
    """Each pixel counts photons, ``photons`` of them where it is white."""
    means = np.moveaxis(x.astype(np.float64), 1, -1) * photons
    counts = [g.poisson(mean) for g, mean in zip(draws.generators, means, strict=True)]
    return _pixels_first(np.stack(counts)) / photons


def impulse_noise(x: Batch, draws: Draws, share: float) -> Batch:
    """Salt and pepper."""
    hit = _pixels_first(draws.random(_pixel_shape(x))) <= share
    salt = _pixels_first(draws.random(_pixel_shape(x))) <= 0.5
    return np.where(hit, salt.astype(np.float32), x)


def defocus_blur(x: Batch, _: Draws, radius: float, softness: float) -> Batch:
    """A disk, its edge softened."""
    reach = max(8, int(radius))
    side = np.arange(-reach, reach + 1)
    disk = (side[:, None] ** 2 + side**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    soft = np.exp(-(taps**2) / (2 * softness**2))
    for axis in (0, 1):
        disk = ndimage.convolve1d(disk, soft / soft.sum(), axis, mode="mirror")
    reach = min(reach, int(radius) + len(taps) // 2)  # zeros around it would only cost time
    middle = slice(len(side) // 2 - reach, len(side) // 2 + reach + 1)
    disk = torch.from_numpy(disk[middle, middle]).float()[None, None]
    n, c, h, w = x.shape
    planes = F.pad(torch.from_numpy(x).view(n * c, 1, h, w), [reach] * 4, mode="reflect")
    return F.conv2d(planes, disk).view(n, c, h, w).numpy()


def glass_blur(x: Batch, draws: Draws, sigma: float, reach: int, rounds: int) -> Batch:
    """Pixels take the colours of near ones, one after the other, between two blurs.

    The paper says that they trade places. The published code and data have copies, since numpy's
    assignment of two views swaps nothing, and we follow what has been measured everywhere.
    """
    x = np.floor(_gaussian(x, sigma) * 255 + 1e-4)
    n, _, h, w = x.shape
    pixels = x.transpose(0, 2, 3, 1).copy()
    rows, columns = range(h - reach, reach, -1), range(w - reach, reach, -1)
    each = np.arange(n)
    for _ in range(rounds):
        moves = draws.integers(-reach, reach, size=(len(rows), len(columns), 2))
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                right, down = moves[:, i, j].T
                pixels[:, row, column] = pixels[each, row + down, column + right]
    return _gaussian(pixels.transpose(0, 3, 1, 2) / np.float32(255), sigma)


def motion_blur(x: Batch, draws: Draws, length: int, sigma: float) -> Batch:
    return _smear(x, length, sigma, draws.uniform(-45, 45))


def zoom_blur(x: Batch, _: Draws, most: float, step: float) -> Batch:
    """The mean of the image and of itself, magnified up to ``most`` times."""
    h, w = x.shape[2:]
    factors = np.arange(1, most, step)
    total = x + sum(_zoom(x, factor)[:, :, :h, :w] for factor in factors)
    return total / np.float32(len(factors) + 1)


def snow(
    x: Batch,
    draws: Draws,
    mean: float,
    deviation: float,
    zoom: float,
    least: float,
    length: int,
    sigma: float,
    kept: float,
) -> Batch:
    """Flakes that fall, on an image that turns grey and bright."""
    flakes = draws.normal(mean, deviation, x.shape[2:])[:, None].astype(np.float32)
    flakes = _zoom(flakes, zoom)
    flakes[flakes < least] = 0
    flakes = _smear(flakes.clip(0, 1), length, sigma, draws.uniform(-135, -45))
    flakes = np.round(flakes[:, :, : x.shape[2], : x.shape[3]] * 255) / np.float32(255)
    bright = np.maximum(x, _grey(x) * 1.5 + 0.5)
    return kept * x + (1 - kept) * bright + flakes + flakes[:, :, ::-1, ::-1]


def frost(x: Batch, draws: Draws, kept: float, ice: float) -> Batch:
    """Bluish crystals over a darker image."""
    h, w = x.shape[2:]
    field = np.zeros((len(x), h, w))
    for scale, weight in ((1, 0.35), (2, 0.5), (5, 0.8), (12, 1.0)):
        # Ridges, where a smooth field changes its sign, look like the edges of crystals.
        rough = draws.normal(0.0, 1.0, (h, w))
        smooth = ndimage.gaussian_filter(rough, (0, scale, scale / 2), mode="wrap")
        smooth /= smooth.std((1, 2), keepdims=True)
        field += weight * np.exp(-np.abs(smooth))
    field -= field.min((1, 2), keepdims=True)
    field /= field.max((1, 2), keepdims=True)
    texture = 0.25 + 0.75 * field[:, None]
    colour = np.array([0.86, 0.95, 1.0]).reshape(1, 3, 1, 1) if x.shape[1] == 3 else 0.94
    return kept * x + ice * (texture * colour).astype(np.float32)


def fog(x: Batch, draws: Draws, strength: float, decay: float) -> Batch:
    h, w = x.shape[2:]
    side = 1 << (max(h, w) - 1).bit_length()
    cloud = _plasma(side, decay, draws)[:, None, :h, :w]
    brightest = x.max((1, 2, 3), keepdims=True)
    return (x + strength * cloud) * brightest / (brightest + strength)


def brightness(x: Batch, _: Draws, more: float) -> Batch:
    """The value of HSV raised, hue and saturation kept."""
    value = x.max(1, keepdims=True)
    raised = (value + np.float32(more)).clip(0, 1)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-9), raised)


def contrast(x: Batch, _: Draws, kept: float) -> Batch:
    mean = x.mean((2, 3), keepdims=True)
    return (x - mean) * np.float32(kept) + mean


def elastic_transform(x: Batch, draws: Draws, strength: float, sigma: float, tilt: float) -> Batch:
    """Pixels drawn from places that a smooth random field names.

    All numbers are shares of the height: the field is uniform up to ``strength``, then smoothed by
    ``sigma``; ``tilt`` moves three points of an affine map.
    """
    n, _, h, w = x.shape
    rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    places = np.broadcast_to(np.stack([columns, rows]).astype(np.float64), (n, 2, h, w))
    if tilt:
        places = _tilted(places, tilt * h, draws)
    if strength:
        widths = (0, sigma * h, sigma * w)
        fields = [strength * h * draws.uniform(-1, 1, (h, w)) for _ in "xy"]
        smooth = [ndimage.gaussian_filter(field, widths, truncate=3) for field in fields]
        places = places + np.stack(smooth, axis=1)
    # -1..1 from edge to edge of the pixels, as grid_sample has them
    grid = (2 * places + 1) / np.array([w, h]).reshape(1, 2, 1, 1) - 1
    grid = torch.from_numpy(grid).float().permute(0, 2, 3, 1)
    options: dict[str, Any] = {"padding_mode": "reflection", "align_corners": False}
    return F.grid_sample(torch.from_numpy(x), grid, **options).numpy()


def pixelate(x: Batch, _: Draws, kept: float) -> Batch:
    def change(image: Image.Image) -> Image.Image:
        small = (int(image.width * kept), int(image.height * kept))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _by_pillow(x, change)


def jpeg_compression(x: Batch, _: Draws, quality: int) -> Batch:
    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(x, change)


def _pixel_shape(x: Batch) -> tuple[int, ...]:
    """Of an image with its channels last, the order in which the original draws."""
    return (*x.shape[2:], x.shape[1])


def _pixels_first(drawn: np.ndarray) -> np.ndarray:
    """(n, h, w, channels) -> (n, channels, h, w), fp32"""
    return np.moveaxis(drawn, -1, 1).astype(np.float32)


def _gaussian(x: Batch, sigma: float) -> Batch:
    return ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest")


def _grey(x: Batch) -> Batch:
    if x.shape[1] == 1:
        return x
    weights = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
    return (x * weights).sum(1, keepdims=True)


def _zoom(x: Batch, factor: float) -> Batch:
    """The middle of each image, magnified to its size or some pixels more."""
    h, w = x.shape[2:]
    rows, columns = (int(np.ceil(side / factor)) for side in (h, w))
    top, left = (h - rows) // 2, (w - columns) // 2
    middle = torch.from_numpy(x[:, :, top : top + rows, left : left + columns].copy())
    size = (round(rows * factor), round(columns * factor))
    return F.interpolate(middle, size, mode="bilinear", align_corners=True).numpy()


def _smear(x: Batch, length: int, sigma: float, angles: np.ndarray) -> Batch:
    """The weighted mean of the image moved step by step in a direction, degrees (n,)."""
    steps = np.arange(2 * length + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    n, _, h, w = x.shape
    down, right = (
        -np.ceil(steps * move(np.deg2rad(angles))[:, None] - 0.5).astype(int)
        for move in (np.sin, np.cos)
    )
    each = np.arange(n)[:, None, None]
    pixels = x.transpose(0, 2, 3, 1)
    smeared = np.zeros_like(pixels)
    for step in steps:
        rows = (np.arange(h) - down[:, step, None]).clip(0, h - 1)[:, :, None]
        columns = (np.arange(w) - right[:, step, None]).clip(0, w - 1)[:, None, :]
        smeared += np.float32(weights[step]) * pixels[each, rows, columns]
    return smeared.transpose(0, 3, 1, 2)


def _plasma(side: int, decay: float, draws: Draws) -> np.ndarray:
    """Clouds by the diamond-square algorithm: (n, side, side), 0..1; ``side`` a power of two."""
    cloud = np.zeros((len(draws.generators), side, side), np.float32)
    step, wobble = side, 100.0
    while step >= 2:
        half = step // 2

        def mean(total: np.ndarray, wobble: float = wobble) -> np.ndarray:
            shape = total.shape[1:]
            return total / 4 + wobble * draws.uniform(-wobble, wobble, shape)

        corners = cloud[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        cloud[:, half::step, half::step] = mean(pairs + np.roll(pairs, -1, 2))
        centres = cloud[:, half::step, half::step]
        across = corners + np.roll(corners, -1, 2)
        cloud[:, ::step, half::step] = mean(centres + np.roll(centres, 1, 1) + across)
        along = corners + np.roll(corners, -1, 1)
        cloud[:, half::step, ::step] = mean(centres + np.roll(centres, 1, 2) + along)
        step, wobble = half, wobble / decay
    cloud -= cloud.min((1, 2), keepdims=True)
    return cloud / cloud.max((1, 2), keepdims=True)


def _tilted(places: np.ndarray, reach: float, draws: Draws) -> np.ndarray:
    """Where the pixels come from when three points move by up to ``reach``: (n, 2, h, w)."""
    n, _, h, w = places.shape
    centre, third = np.array([h, w]) // 2, min(h, w) // 3
    corners = np.array([[third, third], [third, -third], [-third, -third]]) + centre
    moved = corners + draws.uniform(-reach, reach, (3, 2))
    ones = np.ones((n, 3, 1))
    back = np.linalg.solve(np.concatenate([moved, ones], 2), np.broadcast_to(corners, (n, 3, 2)))
    flat = np.concatenate([places.reshape(n, 2, -1), np.ones((n, 1, h * w))], 1)
    return (back.transpose(0, 2, 1) @ flat).reshape(places.shape)


def _by_pillow(x: Batch, change: Callable[[Image.Image], Image.Image]) -> Batch:
    pixels = np.round(x * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    grey = x.shape[1] == 1
    images = [Image.fromarray(image[:, :, 0] if grey else image) for image in pixels]
    changed = np.stack([np.asarray(change(image)) for image in images]).reshape(pixels.shape)
    return changed.transpose(0, 3, 1, 2) / np.float32(255)
