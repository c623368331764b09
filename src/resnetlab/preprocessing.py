"""What happens to an image before a network sees it: one record, carried whole.

Training, evaluation, prediction, export and serving all use it, so that a network sees the pixels
that its accuracy was measured on. Without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageOps

from resnetlab.errors import UserError
from resnetlab.records import Record


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Record):
    """From an image of any size to the numbers that a network takes.

    The image is resized, ``size`` x ``size`` pixels are cut from its centre, and each channel,
    scaled to 0..1, becomes (value - mean) / std. Raises UserError for an impossible value.
    """

    mean: tuple[float, ...]
    """per channel, of pixels scaled to 0..1"""
    std: tuple[float, ...]
    """standard deviation, likewise"""
    size: int
    """pixels of the square that the network sees"""
    resize: int | None = None
    """pixels that the image is resized to before the crop; None: ``size``"""
    crop: Literal["center", "squash", "letterbox"] = "center"
    """center: the shorter side becomes ``resize`` (torchvision's Resize and CenterCrop); squash:
    both sides do; letterbox: the longer side does, and the rest is filled with the mean colour
    (timm's crop modes center, squash and border)"""
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = (
        "bilinear"
    )
    """Pillow's filter of that name, antialiased"""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self.check_choices()
        if not self.mean or len(self.mean) != len(self.std):
            raise UserError("`mean` and `std` go together: give each a number for every channel.")
        if not all(deviation > 0 for deviation in self.std):
            raise UserError(f"`std` must be greater than 0, not {self.std}.")
        if self.size < 1:
            raise UserError(f"`size` must be at least 1 pixel, not {self.size}.")
        if self.resize is not None and self.resize < self.size:
            raise UserError(
                f"`resize` must be at least the {self.size} pixels of `size`, not {self.resize}."
            )

    @property
    def channels(self) -> int:
        return len(self.mean)

    def arrange(self, image: Image.Image) -> Image.Image:
        """The ``size`` x ``size`` pixels of an image ("L" or "RGB") that the network sees.

        An image that has the right size already passes bit for bit. Raises ValueError if the
        resized image would be larger than Pillow's limit.
        """
        width, height = self._resized(*image.size)
        if width * height > (Image.MAX_IMAGE_PIXELS or width * height):
            raise ValueError(f"too long and narrow ({image.width} x {image.height} pixels)")
        resized = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if self.crop == "letterbox":
            resized = self._padded(resized)
        left = round((resized.width - self.size) / 2)
        top = round((resized.height - self.size) / 2)
        return resized.crop((left, top, left + self.size, top + self.size))

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what the network sees of an image, as shares of its sides.

        Below 0 and above 1 where the image is padded.
        """
        ends = []
        for side in self._resized(width, height):
            before = round((max(side, self.size) - self.size) / 2)
            if side < self.size:
                before = -((self.size - side) // 2)
            ends.append((before / side, (before + self.size) / side))
        (left, right), (top, bottom) = ends
        return left, top, right, bottom

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the resize, with torchvision's and timm's rounding."""
        target = self.resize or self.size
        if self.crop == "squash":
            return target, target
        if self.crop == "letterbox":
            ratio = max(width, height) / target
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        short = min(width, height)
        return int(target * width / short), int(target * height / short)

    def _padded(self, image: Image.Image) -> Image.Image:
        """At least ``size`` pixels each way, the rest in the mean colour."""
        missing = [max(0, self.size - side) for side in image.size]
        before = [pixels // 2 for pixels in missing]
        after = [(pixels + 1) // 2 for pixels in missing]
        colour = tuple(round(255 * mean) for mean in self.mean)
        fill = colour if image.mode == "RGB" else round(255 * self.mean[0])
        return ImageOps.expand(image, (*before, *after), fill)
