"""JPEG files without Pillow: the same pixels, from threads that do not wait for each other.

Pillow and simplejpeg both decode by libjpeg-turbo. But Pillow reads headers in Python and packs
pixels holding Python's lock: without it, two threads on two cores load 1.2 to 1.3 times as many
images/s (benchmarks/README.md, Photographs).
"""

from __future__ import annotations

import struct

import numpy as np
import simplejpeg
import torch
from PIL import ExifTags, Image
from torch import Tensor

_APP1, _START_OF_SCAN = 0xE1, 0xDA
_EXIF = b"Exif\0\0"
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION, _SHORT = int(ExifTags.Base.Orientation), 3
_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
"""Bytes of one value of each type of TIFF's."""
_TURNS = {
    2: (1, -1, False),
    3: (-1, -1, False),
    4: (-1, 1, False),
    5: (1, 1, True),
    6: (-1, 1, True),
    7: (-1, -1, True),
    8: (1, -1, True),
}
"""Of an EXIF orientation: the steps over rows and columns, and whether these then change places."""


def read_jpeg(data: bytes, shortest: int) -> Tensor | None:
    """Decode an ordinary colour JPEG, upright: uint8 (height, width, 3).

    None for whatever Pillow is to judge: another format, a shorter side of ``shortest`` pixels or
    more, grey and CMYK images, unusual EXIF, damaged files.
    """
    try:
        *sides, colours, _ = simplejpeg.decode_jpeg_header(data)
        height, width = map(int, sides)
        allowed = height * width <= (Image.MAX_IMAGE_PIXELS or height * width)
        orientation = _orientation(_notes(data))
        if orientation is None or colours not in ("YCbCr", "RGB"):
            return None
        if min(height, width) >= shortest or not allowed:
            return None
        pixels = simplejpeg.decode_jpeg(data, "RGB")
    except (ValueError, struct.error, IndexError):
        return None
    return torch.from_numpy(_upright(pixels, orientation))


def _notes(data: bytes) -> list[bytes]:
    """What the APP1 segments of a JPEG file's header hold: EXIF, XMP."""
    notes, place = [], 2
    while data[place] == 0xFF and (marker := data[place + 1]) != _START_OF_SCAN:
        (length,) = struct.unpack_from(">H", data, place + 2)
        if marker == _APP1:
            notes.append(data[place + 4 : place + 2 + length])
        place += 2 + length
    return notes


def _orientation(notes: list[bytes]) -> int | None:
    """By EXIF, 1 where it says nothing; None where only Pillow knows what to make of it."""
    if not notes:
        return 1
    exif, *others = notes
    # Pillow joins the parts of a long EXIF, and looks for an orientation in XMP.
    if any(other.startswith(_EXIF) or b"Orientation" in other for other in others):
        return None
    order = _BYTE_ORDERS.get(exif[6:10])
    if not exif.startswith(_EXIF) or order is None:
        return None
    (start,) = struct.unpack_from(order + "I", exif, 10)
    (count,) = struct.unpack_from(order + "H", exif, 6 + start)
    entries = list(struct.iter_unpack(order + "HHII", exif[8 + start : 8 + start + 12 * count]))
    turns = [entry for entry in entries if entry[0] == _ORIENTATION]
    # Pillow reads no further where it finds one whose values lie outside.
    sizes = (_SIZES[kind] * values for _, kind, values, _ in entries)
    ends = (6 + where + size for size, (*_, where) in zip(sizes, entries, strict=True) if size > 4)
    if len(entries) < count or len(turns) > 1 or max(ends, default=0) > len(exif):
        return None
    if not turns:
        return 1
    _, kind, values, field = turns[0]
    usual = (kind, values) == (_SHORT, 1)
    return (field >> 16 if order == ">" else field & 0xFFFF) if usual else None


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """uint8 (height, width, 3), turned as EXIF says."""
    if orientation not in _TURNS:
        return pixels
    down, right, across = _TURNS[orientation]
    whole = pixels.view("V3")[::down, ::right]  # moved pixel by pixel, not byte by byte
    turned = whole.swapaxes(0, 1) if across else whole
    return turned.copy().view(np.uint8)  # one pixel wide, it counts as contiguous, turned or not
