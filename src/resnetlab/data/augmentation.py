"""How training images are varied, from a data set to what a network is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from resnetlab.data.augment import (
    CropMode,
    FlipMode,
    Share,
    alternating_flip,
    cutout,
    mix,
    random_crop,
    random_flip,
)
from resnetlab.data.crops import DRAWS, random_box
from resnetlab.data.dataset import Dataset
from resnetlab.data.images import normalize
from resnetlab.data.prefetch import in_threads
from resnetlab.preprocessing import Preprocessing
from resnetlab.seeding import DrawsFrom, fold_in, seeded_generator


def margin_size(size: int) -> int:
    """Pixels of the shorter side that ``resized_crop`` cuts from: half as many again.

    So a crop of at least 4/9 of a square image's area is not enlarged.
    """
    return size * 3 // 2


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training images, in the order of the fields. The defaults do nothing.

    Where anything of it is for photographs (``by_sample``), what happens to an image is drawn by
    (seed, epoch, index of the sample), in ``load``; else by (seed, epoch, step), for all images of
    a batch at once, in ``__call__``: that is many times faster for images of 32 pixels.
    """

    resized_crop: float = 0.0
    """Smallest share of the image's area that a random crop of it shows; 0 for none."""
    crop_padding: int = 0
    """Pixels of padding on each side before a random crop of the old size; not after the other."""
    crop_mode: CropMode = "zero"
    """What the padding shows: black or the mirrored edge."""
    flip: FlipMode = "none"
    """Left-right mirroring: a coin for each image, or every other epoch."""
    color_jitter: float = 0.0
    """Largest change of brightness, contrast and saturation."""
    auto_augment: Literal["none", "rand", "trivial"] = "none"
    """RandAugment or TrivialAugment."""
    cutout: int = 0
    """Side in pixels of a square painted in the mean colour."""
    random_erasing: float = 0.0
    """Probability that a rectangle is painted in the mean colour."""
    mixup: float = 0.0
    """Alpha of mixup; 0 for off."""
    cutmix: float = 0.0
    """Alpha of CutMix; 0 for off."""
    seed: int = 0
    """Of all that is random."""
    preprocessing: Preprocessing
    """How the images are normalised in the end."""
    num_classes: int = 0
    """Of the soft labels of mixed images."""

    @property
    def by_sample(self) -> bool:
        """Whether images are varied one by one, as they are loaded."""
        operations = self.color_jitter, self.random_erasing, self.auto_augment != "none"
        return bool(self.resized_crop or any(operations))

    def load(self, data: Dataset, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Images and labels of some samples for ``__call__``: uint8 (n, c, size, size), int64 (n,).

        The images are those of ``data.batch`` or, by sample, views of them, computed in threads.
        """
        if not self.by_sample:
            return data.batch(indices)
        images = None if self.resized_crop else data.batch(indices)[0]
        size, channels = self.preprocessing.size, self.preprocessing.channels
        views = torch.empty(len(indices), size, size, channels, dtype=torch.uint8)
        views = views.permute(0, 3, 1, 2)

        def add(sample: tuple[int, int]) -> None:
            place, index = sample
            generator = seeded_generator(self.seed, "sample", epoch, index)
            image = self._resized_crop(data, index, generator) if images is None else images[place]
            views[place] = self._view(image, index, epoch, generator)

        in_threads(add, [*enumerate(indices.tolist())])
        return views, data.labels[indices]

    def _resized_crop(self, data: Dataset, index: int, generator: torch.Generator) -> Tensor:
        """A random part of a sample's image, resized: uint8 (c, size, size)."""
        size, draws = self.preprocessing.size, torch.rand(DRAWS, generator=generator).tolist()
        crop = partial(random_box, draws, self.resized_crop)
        part = data.uncropped(index, margin_size(size), crop)
        batch = part[None].permute(0, 3, 1, 2)  # in channels_last order, and so is the result
        return F.interpolate(batch, [size] * 2, mode=self._interpolation, antialias=True)[0]

    def _view(self, image: Tensor, index: int, epoch: int, generator: torch.Generator) -> Tensor:
        """An image or a crop of it, uint8 (c, size, size), as an epoch shows it."""
        if self.crop_padding and not self.resized_crop:
            (image,) = random_crop(image[None], self.crop_padding, generator, self.crop_mode)
        if self.flip == "random" and torch.rand((), generator=generator) < 0.5:
            image = image.flip(-1)
        if self.flip == "alternating":
            (image,) = alternating_flip(image[None], torch.tensor([index]), epoch, self.seed)
        if self.color_jitter or self.auto_augment != "none":
            with DrawsFrom(generator):
                for transform in self._recolouring:
                    image = transform(image)
        if self.cutout:
            (image,) = cutout(image[None], self.cutout, generator, self._mean_colour)
        if self.random_erasing:
            with DrawsFrom(generator):
                image = self._erasing(image)
        return image

    @property
    def _mean_colour(self) -> list[int]:
        return [round(255 * mean) for mean in self.preprocessing.mean]

    @property
    def _interpolation(self) -> str:
        """Of the kinds that a random crop knows, the one nearest to the preprocessing's."""
        cubic = self.preprocessing.interpolation in ("bicubic", "lanczos")
        return "bicubic" if cubic else "bilinear"

    @cached_property
    def _recolouring(self) -> list[Callable[[Tensor], Tensor]]:
        from torchvision.transforms import v2

        chosen: list[Callable[[Tensor], Tensor]] = []
        if self.color_jitter:
            chosen.append(v2.ColorJitter(*[self.color_jitter] * 3))
        if self.auto_augment == "rand":
            chosen.append(v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR))
        if self.auto_augment == "trivial":
            chosen.append(v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR))
        return chosen

    @cached_property
    def _erasing(self) -> Callable[[Tensor], Tensor]:
        from torchvision.transforms import v2

        colour: Any = self._mean_colour  # its annotation knows no list, its documentation does
        return v2.RandomErasing(self.random_erasing, value=colour)

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor,
        *,
        epoch: int,
        step: int,
        share: Share = (0, 1),
        size: int | None = None,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images and their labels.

        images uint8 (n, c, h, w), labels int64 (n,), both from ``load``; indices int64 (n,) of the
        samples in their data set. With ``size`` the images are resized to it, antialiased, before
        they are normalised. Labels come back as they are or, mixed, as float (n, num_classes). The
        result depends on the record and the arguments alone: (seed, epoch, step) fix all that is
        random, whatever the number of ranks; of mixed images, each rank pairs its own.
        """
        if not self.by_sample:
            generator = seeded_generator(self.seed, "augment", epoch, step, 0)
            if self.crop_padding:
                images = random_crop(images, self.crop_padding, generator, self.crop_mode, share)
            if self.flip == "random":
                images = random_flip(images, generator, share)
            elif self.flip == "alternating":
                images = alternating_flip(images, indices, epoch, self.seed)
            if self.cutout:
                images = cutout(images, self.cutout, generator, self._mean_colour, share)
        if size is not None:
            images = _resized(images, size)
        pixels = normalize(images, self.preprocessing, dtype, memory_format)
        if not (self.mixup or self.cutmix):
            return pixels, labels
        pixels, soft = mix(
            pixels,
            labels,
            mixup=self.mixup,
            cutmix=self.cutmix,
            num_classes=self.num_classes,
            seed=fold_in(self.seed, "mix", epoch, step, 0),
        )
        return pixels.contiguous(memory_format=memory_format), soft


def _resized(images: Tensor, size: int) -> Tensor:
    """uint8 (n, c, h, w) resized to a square, antialiased; torch knows bytes on the CPU alone."""
    on_cpu = images.device.type == "cpu"
    pixels = images if on_cpu else images.float()
    pixels = F.interpolate(pixels, size=[size] * 2, mode="bilinear", antialias=True)
    return pixels if on_cpu else pixels.round_().byte()
