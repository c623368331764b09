"""The one path from an image to the numbers that a network sees.

Training and evaluation take stored pixels through `normalize`; prediction and serving take files
through `read_image` and then through the same `normalize`.
"""

import io
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.preprocessing import Preprocessing

_opening = threading.Lock()

ImageSource = str | Path | bytes | Image.Image


def read_image(source: ImageSource, preprocessing: Preprocessing) -> Tensor:
    """Decode an image of any size and mode: uint8 (channels, size, size).

    It is resized and cut as ``preprocessing`` says. EXIF rotation is applied, transparency is laid
    over white, of an animation the first frame is taken, 16-bit values are scaled to 8 bits, and
    floats are read as 0..1 or 0..255.

    Raises UserError that names the file if it cannot be read.
    """
    channels, size = preprocessing.channels, preprocessing.size
    if channels not in (1, 3):
        raise UserError(f"images have 1 or 3 channels, but the network expects {channels}")
    name = str(source) if isinstance(source, str | Path) else "the image"
    try:
        image = preprocessing.arrange(_to_mode(_decode(source), "L" if channels == 1 else "RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"cannot read {name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"cannot read {name}: not an image, or of an unknown format") from error
    except Exception as error:  # decoders raise whatever a broken file provokes
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"cannot read {name}: {reason or type(error).__name__}") from error
    pixels = np.array(image).reshape(size, size, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _decode(source: ImageSource) -> Image.Image:
    """The upright, fully loaded first frame."""
    if isinstance(source, Image.Image):
        with _opening:  # one that is read from its file only now, for whichever thread comes first
            source.load()
        return _upright(source)
    # Warning filters belong to the whole process: threads that decode take turns at them.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files ...
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # ... except this
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    with image:
        image.load()
        return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is where that is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # of a PNG's, Pillow raises whatever the damage provokes
        return image


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """To 8-bit "L" or "RGB" without clipping or losing transparency."""
    if image.mode == mode and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):  # I;16, I;16B: 16 bits; I: how Pillow decodes 16-bit PGM
        values = np.asarray(image).astype(np.int64)
        _require_range(values, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
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
