"""Pictures, and how they are prepared, for tests of image files and pixels."""

import io

import numpy as np

from resnetlab.preprocessing import Preprocessing


def plain(channels, size):
    """The shorter side to the size, the centre, numbers around zero."""
    return Preprocessing(mean=(0.5,) * channels, std=(0.2,) * channels, size=size)


def gradient(width=40, height=32):
    """RGB uint8 (height, width, 3) with smooth, different channels."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 6, y * 7, 255 - 3 * x - 3 * y], 2).astype(np.uint8)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
