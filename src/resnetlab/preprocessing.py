"""What happens to an image before a network sees it: one record, carried whole.

Training, evaluation, prediction, export and serving all use it, so that a network sees the pixels
that its accuracy was measured on. Without torch: an exported bundle holds this very file.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps

from resnetlab.errors import UserError
from resnetlab.records import Record

ImageSource = str | Path | bytes | Image.Image

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "JPEG2000", "PPM", "TIFF")
"""Pillow's formats of photographs, as far as it has been built with them, the usual ones first.

No others are tried: EPS would start Ghostscript."""

REDUCING_GAP = 3
"""Of photographs of 12 megapixels, resized to 256 and to 64 pixels, this took 0.4 and 0.3 of the
time; pixels differ by 0.1 of 255 levels on average, by 2 at most. Pillow calls a gap of 3 nearly
indistinguishable from decoding all (``Image.resize``, ``reducing_gap``)."""

_opening = threading.Lock()


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

    def read(self, source: ImageSource) -> Image.Image:
        """An image file as the network sees it, ``size`` x ``size`` pixels in "L" or "RGB".

        Large JPEG files are decoded at a fraction of their size that keeps ``REDUCING_GAP`` times
        the pixels of the resize. Raises whatever Pillow raises of a broken file, and ValueError as
        ``arrange`` does.
        """
        needed = REDUCING_GAP * (self.resize or self.size)
        whole = self.interpolation == "nearest"  # which averages nothing
        return self.arrange(decode(source, self.channels, reduce_to=None if whole else needed))

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


def decode(source: ImageSource, channels: int, *, reduce_to: int | None = None) -> Image.Image:
    """The first frame of an image, upright, in 8-bit "L" (1 channel) or "RGB" (3).

    EXIF rotation is applied, transparency is laid over white, 16-bit values are scaled to 8 bits,
    and floats are read as 0..1 or 0..255. Raises whatever Pillow raises of a broken file.

    With ``reduce_to`` a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size, as long as the shorter
    side keeps so many pixels: a fraction of the work, and nearly the pixels of a resize.
    """
    return _to_mode(_loaded(source, reduce_to), "L" if channels == 1 else "RGB")


def _loaded(source: ImageSource, reduce_to: int | None) -> Image.Image:
    """The upright, fully loaded first frame."""
    if isinstance(source, Image.Image):
        with _opening:  # one that is read from its file only now, for whichever thread comes first
            source.load()
        return _upright(source, "a copy")
    with open_image(source) as image:
        if reduce_to:
            image.draft(None, (reduce_to, reduce_to))
        image.load()
        return _upright(image, "itself")


def open_image(source: str | Path | bytes) -> Image.Image:
    """An image with its size and mode, not yet decoded; raises whatever Pillow does."""
    Image.init()  # registers the formats
    # Warning filters belong to the whole process: threads that decode take turns at them.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files ...
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # ... except this
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


def _upright(image: Image.Image, what: Literal["a copy", "itself"]) -> Image.Image:
    """Turned as its EXIF says; as it is where that is damaged."""
    try:
        if what == "itself":
            image.getexif()  # read here, so that Pillow does not write it anew, for nobody
            image.info.pop("exif", None)
        return ImageOps.exif_transpose(image, in_place=what == "itself") or image
    except Exception:  # of a PNG's, Pillow raises whatever the damage provokes
        return image


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """To 8-bit "L" or "RGB" without clipping or losing transparency."""
    if image.mode == mode and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):  # I;16, I;16B: 16 bits; I: how Pillow decodes 16-bit PGM
        values = np.asarray(image).astype(np.int32)
        _require_range(values, 65535)
        values += 128  # in place: of a large image each copy has hundreds of megabytes
        values //= 257
        image = Image.fromarray(values.astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image)
        _require_range(values, 255)
        scale = 255 if values.max() <= 1 else 1
        image = Image.fromarray((values * scale).round().astype(np.uint8))
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    return image.convert(mode)


def _require_range(values: np.ndarray, largest: int) -> None:
    if not (values.min() >= 0 and values.max() <= largest):  # written so that NaN fails
        raise ValueError(f"pixel values outside 0..{largest}; save it with 8 bits a channel")
