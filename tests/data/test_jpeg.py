"""JPEG files without Pillow: its pixels to the bit, or none."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, gradient
from PIL import Image

from resnetlab.data.images import read_uncropped
from resnetlab.data.jpeg import read_jpeg
from resnetlab.preprocessing import decode

ORIENTATION, MAKE, SHORT, LONG, BYTE = 0x0112, 0x010F, 3, 4, 1
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
XMP = XMP_NAME + b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def pillows(data):
    return torch.from_numpy(np.array(decode(data, 3)))


@dataclass
class Entry:
    value: int
    tag: int = ORIENTATION
    kind: int = SHORT
    count: int = 1


def exif(*entries, order=">", head=None, start=8, count=None):
    """A TIFF header and one directory; a short value stands in the first half of its field."""
    head = head or {">": b"MM\0*", "<": b"II*\0"}[order]
    parts = [head, struct.pack(order + "I", start), b"\0" * (start - 8)]
    parts.append(struct.pack(order + "H", len(entries) if count is None else count))
    for entry in entries:
        form = {SHORT: "HHIHxx", BYTE: "HHIBxxx"}.get(entry.kind, "HHII")
        parts.append(struct.pack(order + form, entry.tag, entry.kind, entry.count, entry.value))
    return b"Exif\0\0" + b"".join(parts)


def with_notes(*notes, width=24, height=16, marker=0xE1, **options):
    """A JPEG file with these APP1 segments, the first at its beginning."""
    data = encoded(Image.fromarray(gradient(width, height)), "JPEG", **options)
    segments = (bytes((0xFF, marker)) + struct.pack(">H", len(n) + 2) + n for n in notes)
    return data[:2] + b"".join(segments) + data[2:]


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    quality=st.integers(1, 100),
    subsampling=st.integers(0, 2),
    progressive=st.booleans(),
    restarts=st.integers(0, 3),
    orientation=st.none() | st.integers(0, 10),
    order=st.sampled_from("<>"),
    start=st.integers(8, 20),
)
def test_the_pixels_are_pillows(
    width, height, quality, subsampling, progressive, restarts, orientation, order, start
):
    found = [] if orientation is None else [Entry(orientation)]
    data = with_notes(
        exif(Entry(3, MAKE), *found, order=order, start=start),
        width=width,
        height=height,
        quality=quality,
        subsampling=subsampling,
        progressive=progressive,
        restart_marker_blocks=restarts,
    )
    image = read_jpeg(data, 100)
    assert image is not None
    assert image.is_contiguous()
    assert torch.equal(image, pillows(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (9, 1), (9, 7)])
def test_the_narrowest_images_are_turned(width, height, orientation):
    data = with_notes(exif(Entry(orientation)), width=width, height=height)
    assert torch.equal(read_jpeg(data, 100), pillows(data))


ODD_NOTES = {
    "a long orientation": [exif(Entry(6, kind=LONG))],
    "a long orientation of an Intel": [exif(Entry(6, kind=LONG), order="<")],
    "a byte": [exif(Entry(6, kind=BYTE), order="<")],
    "two values": [exif(Entry(6, count=2))],
    "no value": [exif(Entry(6, count=0))],
    "two orientations": [exif(Entry(6), Entry(3))],
    "fewer entries than it says": [exif(Entry(6), count=2)],
    "no entries, which it says": [exif(count=5)],
    "values outside": [exif(Entry(99, MAKE, LONG, 2), Entry(6))],
    "an unknown type": [exif(Entry(6), Entry(6, MAKE, 99))],
    "a directory outside": [exif(Entry(6))[:-14]],
    "another byte order": [exif(Entry(6), head=b"MM*\0")],
    "no byte order": [exif(Entry(6), head=b"XX\0*")],
    "only the name": [b"Exif\0\0"],
    "less than the name": [b"Exi"],
    "empty": [b""],
    "two parts": [exif(Entry(6)), exif(Entry(8))],
    "XMP alone": [XMP],
    "XMP after": [exif(Entry(3, MAKE)), XMP],
    "XMP before": [XMP, exif(Entry(3))],
}


@pytest.mark.parametrize("what", ODD_NOTES)
@pytest.mark.filterwarnings("ignore:.*EXIF")
def test_of_odd_exif_pillow_judges(what):
    data = with_notes(*ODD_NOTES[what])
    assert read_jpeg(data, 100) is None
    assert torch.equal(read_uncropped(data, 100, 3, name="a.jpg"), pillows(data))


def test_other_notes_disturb_nothing():
    data = with_notes(exif(Entry(6)), XMP_NAME + b"<x:xmpmeta/>")
    assert read_jpeg(data, 100).shape == (24, 16, 3)
    assert torch.equal(read_jpeg(data, 100), pillows(data))
    colours = with_notes(b"ICC_PROFILE\0\1\1" + bytes(500), marker=0xE2)
    assert torch.equal(read_jpeg(colours, 100), pillows(colours))


def test_the_first_of_several_pictures_in_a_file():
    first, second = Image.fromarray(gradient()), Image.new("RGB", (40, 32), "red")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert torch.equal(read_jpeg(data, 100), pillows(data))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_of_other_colours_pillow_judges(mode):
    data = encoded(Image.fromarray(gradient()).convert(mode), "JPEG")
    assert read_jpeg(data, 100) is None
    assert torch.equal(read_uncropped(data, 100, 3, name="a.jpg"), pillows(data))


def test_an_image_that_pillow_decodes_at_a_fraction_is_left_to_it():
    data = encoded(Image.fromarray(gradient(90, 60)), "JPEG")
    assert read_jpeg(data, 61) is not None
    assert read_jpeg(data, 60) is None
    assert read_uncropped(data, 31, 3, name="a.jpg").shape == (31, 46, 3)
    assert read_uncropped(data, 30, 3, name="a.jpg").shape == (30, 45, 3)


def test_too_many_pixels_are_pillows_to_refuse(monkeypatch):
    data = encoded(Image.fromarray(gradient(90, 60)), "JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90 * 60)
    assert read_jpeg(data, 100) is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90 * 60 - 1)
    assert read_jpeg(data, 100) is None


@given(st.data())
def test_damaged_files_are_pillows_to_judge(data):
    whole = with_notes(exif(Entry(6)))
    cut = data.draw(st.integers(0, len(whole) - 3))
    assert read_jpeg(whole[:cut], 100) is None
    assert read_jpeg(data.draw(st.binary(max_size=60)), 100) is None
    assert read_jpeg(b"\xff\xd8" + data.draw(st.binary(max_size=60)), 100) is None
