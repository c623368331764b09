"""The one path from an image to the numbers that a network sees.

Training and evaluation take stored pixels through `normalize`; prediction and serving take files
through `read_image` and then through the same `normalize`.
"""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from resnetlab.data.jpeg import read_jpeg
from resnetlab.errors import UserError, reason_of
from resnetlab.files import is_address, shown_address, user_path
from resnetlab.preprocessing import ImageSource, Preprocessing, decode

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm"}
    | {".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What is looked for in folders; a file that is named is tried whatever its suffix."""

_RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"}
"""A camera's raw data; some begin as a TIFF file does, whose image is a thumbnail."""

_OTHER_FORMATS = {
    rb".{4}ftyp(hei|hev|mif1|msf1)": "HEIC",
    rb"%!PS|\xc5\xd0\xd3\xc6": "PostScript",
    rb"%PDF": "PDF",
    rb"8BPS": "Photoshop",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL",
    rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg": "SVG",
}
"""How files of other formats begin, and what these are called."""


def read_image(
    source: ImageSource, preprocessing: Preprocessing, *, name: str | None = None
) -> Tensor:
    """Decode an image of any size and mode: uint8 (channels, size, size).

    It is resized and cut as ``preprocessing`` says. EXIF rotation is applied, transparency is laid
    over white, of an animation the first frame is taken, 16-bit values are scaled to 8 bits, and
    floats are read as 0..1 or 0..255.

    Raises UserError that names the file if it cannot be read; ``name`` is that of bytes.
    """
    channels = preprocessing.channels
    if channels not in (1, 3):
        raise UserError(f"images have 1 or 3 channels, but the network expects {channels}")
    image = _read(source, name, preprocessing.read)
    return _pixels(image).permute(2, 0, 1).contiguous()


def read_uncropped(data: bytes, size: int, channels: int, *, name: str | None = None) -> Tensor:
    """Decode a whole image: uint8 (height, width, channels), its shorter side at most ``size``.

    As ``read_image`` does, but fast: a JPEG file is decoded at a fraction of its size, and what is
    still larger is resized. Raises UserError that names the file if it cannot be read.
    """
    # From twice the size on, Pillow's decoding at a fraction is faster.
    pixels = read_jpeg(data, 2 * size) if channels == 3 else None
    if pixels is None:
        pixels = _pixels(_read(data, name, lambda file: decode(file, channels, reduce_to=size)))
    *sides, _ = pixels.shape
    if min(sides) <= size:
        return pixels
    sides = [round(side * size / min(sides)) for side in sides]
    batch = pixels[None].permute(0, 3, 1, 2)
    resized = F.interpolate(batch, sides, mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0)


def _pixels(image: Image.Image) -> Tensor:
    """uint8 (height, width, channels)"""
    return torch.from_numpy(np.array(image).reshape(image.height, image.width, -1))


def _read(
    source: ImageSource, name: str | None, work: Callable[[ImageSource], Image.Image]
) -> Image.Image:
    """What ``work`` makes of an image; UserError, with its name, for whatever that raises."""
    name = name or (str(source) if isinstance(source, str | Path) else "the image")
    if isinstance(source, str | Path):
        source = _checked_path(source)
    try:
        return work(source)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"cannot read {name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"cannot read {name}: {_unknown_format(source)}") from error
    except Exception as error:  # decoders raise whatever a broken file provokes
        raise UserError(f"cannot read {name}: {reason_of(error)}") from error


def _checked_path(source: str | Path) -> Path:
    """The file to open; UserError for an address, and for what might never end or do harm."""
    if is_address(source):
        raise UserError(
            f"cannot read {shown_address(source)}: images are not fetched from the network; "
            "download it and name the file"
        )
    path = Path(source)
    try:
        if not path.exists():  # one found in a folder may be called ~
            path = user_path(path)
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {source}: {reason_of(error)}") from error
    for is_kind, kind in (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
    ):
        if is_kind(mode):
            raise UserError(f"cannot read {source}: it is {kind}, not a file")
    if path.suffix.lower() in _RAW_SUFFIXES:
        raise UserError(
            f"cannot read {source}: a camera's raw data is not supported; save it as JPEG or PNG"
        )
    return path


def _unknown_format(source: ImageSource) -> str:
    """Why Pillow did not identify an image, by its first bytes."""
    head = b""
    if isinstance(source, bytes):
        head = source[:500]
    elif isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(500)
    for pattern, format in _OTHER_FORMATS.items():
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return f"{format} files are not supported; save it as JPEG or PNG"
    if re.match(rb"\s*<(!doctype )?html", head, re.IGNORECASE):
        return "it is a web page, not an image; download the image itself"
    if head.startswith(b"version https://git-lfs"):
        return "it is only Git LFS's pointer to the image; run git lfs pull"
    return "not an image, or of an unknown format"


def arrange(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (n, c, h, w) to (n, c, size, size), each image exactly as `read_image` would."""
    size = preprocessing.size
    if images.shape[2:] == (size, size) and preprocessing.resize in (None, size):
        return images
    arranged = []
    for pixels in images.permute(0, 2, 3, 1).contiguous().numpy():
        image = Image.fromarray(pixels.squeeze(2) if images.size(1) == 1 else pixels)
        arranged.append(np.asarray(preprocessing.arrange(image)).reshape(size, size, -1))
    return torch.from_numpy(np.stack(arranged)).permute(0, 3, 1, 2)


def normalize(
    images: Tensor,
    preprocessing: Preprocessing,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """(images / 255 - mean) / std for uint8 (n, c, h, w), mean and std per channel.

    One multiplication and one addition over long rows, computed in float32: ten times the speed
    of the formula as written, which broadcasts over three channels.
    """
    n, c, h, w = images.shape
    if preprocessing.channels != c:
        raise ValueError(
            f"images of {c} channels need {c} means and deviations, not {preprocessing.channels}"
        )
    deviation = torch.tensor(preprocessing.std, dtype=torch.float64)
    scale = (1 / (255 * deviation)).float().to(images.device)
    shift = (
        (-torch.tensor(preprocessing.mean, dtype=torch.float64) / deviation)
        .float()
        .to(images.device)
    )
    images = images.contiguous(memory_format=memory_format)
    if memory_format == torch.channels_last:
        rows = images.permute(0, 2, 3, 1).reshape(n, h, w * c)
        scaled = rows.float().mul_(scale.repeat(w)).add_(shift.repeat(w)).to(dtype)
        return scaled.view(n, h, w, c).permute(0, 3, 1, 2)
    planes = images.reshape(n, c, h * w)
    return planes.float().mul_(scale[:, None]).add_(shift[:, None]).to(dtype).view(n, c, h, w)
