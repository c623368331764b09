"""Image files as they come: which are read, and which are refused in what words."""

import os
import socket
import subprocess
import warnings

import numpy as np
import pytest
from pictures import encoded, gradient, plain
from PIL import Image

from resnetlab.data.images import IMAGE_SUFFIXES, read_image
from resnetlab.preprocessing import FORMATS


def unreadable(tmp_path):
    path = tmp_path / "image.png"
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)))
    yield path, "No such file"
    path.write_text("not an image")
    yield path, "not an image, or of an unknown format"
    path.write_bytes(b"")
    yield path, "not an image"
    path.write_bytes(data[:-100])
    yield path, "truncated"
    path.write_bytes(data[:20])
    yield path, ""
    folder = tmp_path / "folder.png"
    folder.mkdir()
    yield folder, "Is a directory"
    yield data[:200], "truncated"


def test_unreadable_files_are_named(tmp_path):
    for source, reason in unreadable(tmp_path):
        name = "the image" if isinstance(source, bytes) else str(source)
        with pytest.raises(ValueError, match=f"^cannot read {name}: .*{reason}"):
            read_image(source, plain(3, 32))


def test_decompression_bombs(monkeypatch):
    data = encoded(Image.new("L", (40, 40)))
    for limit in (1000, 100):  # Pillow warns above the limit and refuses above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=f"more than {limit:,} pixels"):
            read_image(data, plain(1, 32))


def test_a_hair_of_an_image_is_refused_before_it_fills_the_memory():
    with pytest.raises(ValueError, match="too long and narrow"):
        read_image(Image.new("L", (3_000_000, 1)), plain(1, 32))


def test_strange_channel_numbers():
    with pytest.raises(ValueError, match="1 or 3 channels, but the network expects 4"):
        read_image(Image.new("L", (4, 4)), plain(4, 4))


def test_warnings_of_pillow_do_not_leak():
    data = encoded(Image.fromarray(gradient(32, 32)).quantize(4), transparency=b"\x00\x80\xff\xff")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(data, plain(3, 32))
    assert not caught


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program in PATH that only notes that it was started: the file that it leaves."""
    noted, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {noted}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return noted


def test_no_file_starts_another_program(ghostscript, tmp_path):
    eps = tmp_path / "photo.png"
    Image.fromarray(gradient()).save(eps, "EPS")
    with Image.open(eps) as image, pytest.raises(subprocess.CalledProcessError):
        image.load()  # what Pillow does by itself
    assert ghostscript.exists()
    ghostscript.unlink()
    for source in (eps, eps.read_bytes()):
        with pytest.raises(ValueError, match="PostScript files are not supported; save it as JPEG"):
            read_image(source, plain(3, 32))
    assert not ghostscript.exists()


@pytest.mark.parametrize("format", ["ICO", "TGA", "PCX", "SGI", "PDF", "DDS"])
def test_formats_that_are_no_photographs_are_refused(format, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(gradient(32, 32)).save(path, format)
    with pytest.raises(ValueError, match=f"cannot read {path}: "):
        read_image(path, plain(3, 32))


def test_each_suffix_that_folders_are_searched_for_is_of_a_format_that_is_read():
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in IMAGE_SUFFIXES} <= {*FORMATS, "MPO"}
    for format in FORMATS:
        if format in Image.SAVE:
            options = {"lossless": True} if format == "WEBP" else {}
            data = encoded(Image.fromarray(gradient(32, 32)), format, **options)
            assert read_image(data, plain(3, 32)).shape == (3, 32, 32)


def test_a_photograph_of_several_is_read():
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert read_image(data, plain(3, 32))[0].min() > 200


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC files are not supported; save it as JPEG"),
        ("a.png", b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC files are not supported"),
        ("a.jxl", b"\xff\x0a\0\0", "JPEG XL files are not supported"),
        ("a.psd", b"8BPS\0\x01", "Photoshop files are not supported"),
        ("a.svg", b'<?xml version="1.0"?>\n<svg xmlns="x">', "SVG files are not supported"),
        ("a.pdf", b"%PDF-1.7", "PDF files are not supported"),
        ("a.jpg", b"\n<!DOCTYPE html><html>", "it is a web page, not an image"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "it is only Git LFS's pointer"),
        ("a.dng", b"II*\0\x08\0\0\0", "a camera's raw data is not supported"),
        ("a.NEF", b"MM\0*", "a camera's raw data is not supported"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(name, content, reason, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read {tmp_path / name}: {reason}"):
        read_image(tmp_path / name, plain(3, 32))


@pytest.fixture
def special_files(tmp_path, monkeypatch):
    """(path, what it is) of files that might never end."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        yield [
            (tmp_path / "pipe.png", "a named pipe"),
            (tmp_path / "socket.png", "a socket"),
            (tmp_path / "device.png", "a device"),
        ]


def test_what_might_never_end_is_not_opened(special_files):
    for path, kind in special_files:
        with pytest.raises(ValueError, match=f"^cannot read {path}: it is {kind}, not a file$"):
            read_image(path, plain(3, 32))


@pytest.mark.parametrize("address", ["http://x.org/a.png", "https:/x.org/a.png", "s3://b/a.png"])
def test_addresses_are_recognised(address, tmp_path, monkeypatch):
    whole = address.replace("https:/x", "https://x")
    with pytest.raises(ValueError, match=f"^cannot read {whole}: images are not fetched from"):
        read_image(address, plain(3, 32))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x:").mkdir()  # unless there is such a file
    Image.fromarray(gradient(32, 32)).save("x:/a.png")
    assert read_image("x:/a.png", plain(3, 32)).shape == (3, 32, 32)


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Image.new("L", (4, 4), 7).save("a.png")
    Image.new("L", (4, 4), 9).save("~b.png")
    assert read_image("~/a.png", plain(1, 4)).unique() == 7
    assert read_image("~b.png", plain(1, 4)).unique() == 9
