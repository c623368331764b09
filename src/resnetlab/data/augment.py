"""What ``Augmentation`` is made of: uint8 (n, c, h, w) in, the same out, random for each image.

Pixels are handled as (n, h, w, c), where the row of an image is one run of bytes: a crop is then
a copy of h runs, and the result is already in channels_last order, which convolutions prefer.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.seeding import fold_in

CropMode = Literal["zero", "reflect"]
FlipMode = Literal["none", "random", "alternating"]
Share = tuple[int, int]
"""A rank, and how many share a batch: each draws for its part what one process would."""


def random_crop(
    images: Tensor,
    padding: int,
    generator: torch.Generator,
    mode: CropMode = "zero",
    share: Share = (0, 1),
) -> Tensor:
    """A window of the old size out of each image padded on all sides, by black or by reflection."""
    n, c, h, w = images.shape
    if mode == "reflect" and padding >= min(h, w):
        raise UserError(f"reflecting {padding} pixels needs images larger than {h} x {w}")
    padded = _pad(_pixels_last(images), padding, mode)
    draw = functools.partial(torch.randint, 2 * padding + 1, generator=generator)
    y, x = _own(lambda n: draw((2, n, 1)), n, share, dim=1).to(images.device)
    # All runs of w * c bytes as a view; whole rows are then copied, ten times as fast as pixels.
    runs = padded.as_strided((padded.numel() - w * c + 1, w * c), (1, 1))
    top = torch.arange(n, device=images.device)[:, None] * padded.size(1) + y
    rows = top + torch.arange(h, device=images.device)
    chosen = runs.index_select(0, ((rows * padded.size(2) + x) * c).flatten())
    return chosen.view(n, h, w, c).permute(0, 3, 1, 2)


def random_flip(images: Tensor, generator: torch.Generator, share: Share = (0, 1)) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    coins = _own(lambda n: torch.rand(n, generator=generator), len(images), share)
    return _flip(images, coins < 0.5)


def alternating_flip(images: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
    """Each image mirrored in every other epoch (airbench94, arXiv 2404.00498).

    Two epochs in a row show both mirror images of every sample, where random flips repeat one
    half of the time. Which comes first is a hash of the sample's index in the data set.
    """
    # One round of a multiply-and-shift hash; int64 products wrap around, which is wanted.
    mixed = (indices.long() + (fold_in(seed, "alternating flip") >> 16)) * -0x61C8864680B583EB
    mixed = (mixed ^ (mixed >> 31)) * -0x6B2FB644ECCEEE15
    return _flip(images, ((mixed >> 40) + epoch) % 2 == 1)


def cutout(
    images: Tensor,
    size: int,
    generator: torch.Generator,
    fill: Sequence[int] | int = 0,
    share: Share = (0, 1),
) -> Tensor:
    """A square of `size` pixels painted `fill` (a value, or one per channel) in each image.

    Its centre is any pixel, so squares at the edge are partly outside (arXiv 1708.04552).
    """
    n, c, h, w = images.shape
    device = images.device
    draw = functools.partial(torch.randint, generator=generator)
    top = _own(lambda n: draw(h, (n, 1)), n, share).to(device) - size // 2
    left = _own(lambda n: draw(w, (n, 1)), n, share).to(device) - size // 2
    y, x = torch.arange(h, device=device), torch.arange(w, device=device)
    rows_in, columns_in = (y >= top) & (y < top + size), (x >= left) & (x < left + size)
    inside = rows_in[:, :, None] & columns_in[:, None]
    colour = torch.tensor(fill, dtype=torch.uint8, device=device).expand(c).repeat(w)
    rows = _pixels_last(images).view(n, h, w * c)
    painted = torch.where(inside.repeat_interleave(c, dim=2), colour, rows)
    return painted.view(n, h, w, c).permute(0, 3, 1, 2)


def mix(
    images: Tensor, labels: Tensor, *, mixup: float, cutmix: float, num_classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """torchvision's MixUp or CutMix on float images: new images, soft labels (n, num_classes).

    `mixup` and `cutmix` are the alphas of their Beta distributions, 0 for off; with both, a coin
    decides for the batch.
    """
    from torchvision.transforms import v2  # a second to import, and seldom needed

    kinds = [v2.MixUp(alpha=mixup, num_classes=num_classes)] if mixup else []
    kinds += [v2.CutMix(alpha=cutmix, num_classes=num_classes)] if cutmix else []
    # torchvision draws from the global generator: lend it our seed and give it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        kind = kinds[int(torch.randint(len(kinds), ()))]
        return kind(images, labels)


def _own(draw: Callable[[int], Tensor], n: int, share: Share, dim: int = 0) -> Tensor:
    """Of what is drawn for the images of all ranks, ``n`` each, this rank's part."""
    rank, ranks = share
    return draw(n * ranks).narrow(dim, n * rank, n)


def _pixels_last(images: Tensor) -> Tensor:
    """(n, c, h, w) as a contiguous (n, h, w, c); no copy if it lies in channels_last order."""
    return images.permute(0, 2, 3, 1).contiguous()


def _pad(pixels: Tensor, p: int, mode: CropMode) -> Tensor:
    """(n, h, w, c) with p more pixels on each side; torch cannot reflect uint8 tensors."""
    n, h, w, c = pixels.shape
    padded = pixels.new_zeros(n, h + 2 * p, w + 2 * p, c)
    inner = padded[:, p : p + h]
    inner[:, :, p : p + w] = pixels
    if mode == "reflect":
        for i in range(p):
            inner[:, :, i] = inner[:, :, 2 * p - i]
            inner[:, :, -1 - i] = inner[:, :, -1 - 2 * p + i]
        for i in range(p):
            padded[:, i] = padded[:, 2 * p - i]
            padded[:, -1 - i] = padded[:, -1 - 2 * p + i]
    return padded


def _flip(images: Tensor, which: Tensor) -> Tensor:
    """The images of the bool mask `which` (n,) mirrored left to right."""
    n = len(images)
    pixels = _pixels_last(images)
    # Whole images are copied: ten times as fast as a choice for every pixel.
    both = torch.cat([pixels, pixels.flip(2)])
    chosen = which.to(images.device) * n + torch.arange(n, device=images.device)
    return both.index_select(0, chosen).permute(0, 3, 1, 2)
