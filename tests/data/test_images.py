import io
import os
import socket
import subprocess
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from resnetlab.data.images import (
    IMAGE_SUFFIXES,
    arrange,
    normalize,
    read_image,
    read_uncropped,
)
from resnetlab.preprocessing import FORMATS, Preprocessing, decode


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


def close(found, wanted, tolerance):
    return (found.int() - torch.as_tensor(np.asarray(wanted)).int()).abs().max() <= tolerance


@pytest.mark.parametrize(("channels", "shape"), [(1, (28, 28)), (3, (32, 32, 3))])
def test_the_right_size_passes_bit_for_bit(channels, shape, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    wanted = torch.from_numpy(pixels.reshape(*shape[:2], channels)).permute(2, 0, 1)
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        image = read_image(source, plain(channels, shape[0]))
        assert image.dtype == torch.uint8
        assert torch.equal(image, wanted)


@pytest.mark.parametrize("size", [(40, 32), (100, 33), (31, 200), (8, 5), (224, 224)])
def test_equals_torchvisions_resize_and_centre_crop(size):
    image = Image.fromarray(gradient(*size))
    standard = v2.Compose([v2.Resize(32), v2.CenterCrop(32), v2.PILToTensor()])
    assert torch.equal(read_image(image, plain(3, 32)), standard(image))


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_modes(mode, channels):
    grey = np.repeat(np.linspace(0, 255, 32, dtype=np.uint8)[None], 32, 0)
    rgb = Image.fromarray(np.stack([grey] * 3, 2))
    if mode == "LAB":  # which Pillow cannot convert to without colour profiles
        neutral = np.full((32, 32), 128, np.uint8)
        image = Image.merge("LAB", [Image.fromarray(c) for c in (grey, neutral, neutral)])
    else:  # from grey, as Pillow dithers colours to a palette
        image = (Image.fromarray(grey) if mode == "P" else rgb).convert(mode)
    found = read_image(image, plain(channels, 32))
    assert found.shape == (channels, 32, 32)
    if mode == "1":
        assert set(found.unique().tolist()) == {0, 255}
    else:
        assert close(found, grey, 25 if mode == "LAB" else 2)


def test_colours_survive():
    pixels = gradient(32, 32)
    image = Image.fromarray(pixels)
    for data, tolerance in (
        (encoded(image, "BMP"), 0),
        (encoded(image, "WEBP", lossless=True), 0),
        (encoded(image, "JPEG", quality=100, subsampling=0), 4),
        (encoded(image.convert("CMYK"), "TIFF"), 1),
        (encoded(image.convert("CMYK"), "JPEG", quality=100), 8),
        (encoded(image.quantize(256)), 24),
    ):
        assert close(read_image(data, plain(3, 32)), pixels.transpose(2, 0, 1), tolerance)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_not_clipped(format):
    values = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    data = encoded(Image.fromarray(values), format)
    wanted = np.round(values / 257)
    assert close(read_image(data, plain(1, 32)), wanted, 0)
    assert close(read_image(data, plain(3, 32)), wanted, 0)


@pytest.mark.parametrize("top", [1, 255])
def test_floats_of_both_ranges(top):
    values = np.linspace(0, top, 1024, dtype=np.float32).reshape(32, 32)
    found = read_image(encoded(Image.fromarray(values), "TIFF"), plain(1, 32))
    assert close(found, np.round(values * (255 / top)), 1)


@pytest.mark.parametrize("value", [-1.0, 300.0, float("nan")])
def test_floats_of_unknown_range_are_refused(value):
    image = Image.fromarray(np.full((32, 32), value, np.float32))
    with pytest.raises(ValueError, match="cannot read the image: pixel values outside"):
        read_image(image, plain(1, 32))


def test_transparency_is_laid_over_white():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16, :, 3] = 255  # above opaque black, below nothing
    wanted = np.where(pixels[:, :, 3] == 255, 0, 255)
    image = Image.fromarray(pixels)
    palette = Image.fromarray(np.uint8(pixels[:, :, 3] == 255)).convert("P")
    for data in (
        encoded(image),
        encoded(image.convert("LA")),
        encoded(palette, transparency=0),
        encoded(palette, transparency=b"\x00\xff"),
        encoded(palette, "GIF", transparency=0),
        encoded(
            Image.fromarray(np.uint8(pixels[:, :, 3])).point(lambda v: 255 - v), transparency=255
        ),
    ):
        for channels in (1, 3):
            assert close(read_image(data, plain(channels, 32)), wanted, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    pixels = gradient(32, 32)
    turned = {  # how a camera stores an upright picture under each orientation
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned)), exif=exif)
    assert close(read_image(data, plain(3, 32)), pixels.transpose(2, 0, 1), 0)


def test_a_damaged_exif_leaves_the_image_as_it_is():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=b"Exif\0\0no TIFF at all")
    assert np.array_equal(read_image(file.getvalue(), plain(3, 4)).permute(1, 2, 0), pixels)


def test_first_frame_of_an_animation():
    frames = [Image.new("L", (32, 32), value) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data, plain(1, 32)).unique().tolist() == [10]


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 64))
def test_any_size(width, height, size):
    image = Image.new("RGB", (width, height), (10, 20, 30))
    found = read_image(image, plain(3, size))
    assert found.shape == (3, size, size)
    assert (found == torch.tensor([10, 20, 30])[:, None, None]).all()


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 28, 32, 96])
def test_stored_images_are_resized_as_files_are(channels, size):
    images = torch.randint(0, 256, (3, channels, 32, 32), dtype=torch.uint8)
    for image, found in zip(images, arrange(images, plain(images.size(1), size)), strict=True):
        pixels = image[0] if channels == 1 else image.permute(1, 2, 0).contiguous()
        file = encoded(Image.fromarray(pixels.numpy()))
        assert torch.equal(found, read_image(file, plain(channels, size)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalize_is_the_formula(memory_format, channels, layout):
    images = torch.randint(0, 256, (5, channels, 6, 7), dtype=torch.uint8)
    mean, std = (0.49, 0.48, 0.45)[:channels], (0.25, 0.24, 0.26)[:channels]
    wanted = v2.functional.normalize(images.double() / 255, list(mean), list(std))
    stored = images.contiguous(memory_format=layout)
    preprocessing = Preprocessing(mean=mean, std=std, size=6)
    found = normalize(stored, preprocessing, memory_format=memory_format)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6)
    assert found.is_contiguous(memory_format=memory_format)
    assert torch.equal(stored, images)
    half = normalize(stored, preprocessing, torch.bfloat16, memory_format)
    assert torch.equal(half, found.bfloat16())


def test_normalize_gives_one_image_the_same_numbers_as_a_batch():
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    batch = normalize(images, plain(3, 8), memory_format=torch.channels_last)
    for image, wanted in zip(images, batch, strict=True):
        assert torch.equal(normalize(image[None], plain(3, 8))[0], wanted)


def test_normalize_needs_constants_for_each_channel():
    with pytest.raises(ValueError, match="images of 3 channels need 3 means and deviations"):
        normalize(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), plain(1, 2))


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


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize(("orientation", "shape"), [(1, (96, 128)), (6, (128, 96)), (3, (96, 128))])
@pytest.mark.parametrize("channels", [1, 3])
def test_whole_images_are_reduced_upright_to_nearly_the_pixels_of_a_resize(
    format, orientation, shape, channels
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.fromarray(gradient(40, 30)).resize((1024, 768), Image.Resampling.BICUBIC)
    data = encoded(photo, format, exif=exif)
    found = read_uncropped(data, 96, channels)
    assert found.shape == (*shape, channels)
    turn = {1: None, 6: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}[orientation]
    upright = photo.transpose(turn) if turn is not None else photo
    exact = upright.resize(shape[::-1], Image.Resampling.BILINEAR)
    exact = exact.convert("L" if channels == 1 else "RGB")
    difference = found.squeeze(-1).int() - torch.from_numpy(np.array(exact)).int()
    assert difference.abs().float().mean() < 2
    assert difference.abs().max() < 25


@given(width=st.integers(1, 60), height=st.integers(1, 60), size=st.integers(8, 40))
def test_the_shorter_side_of_a_whole_image_is_at_most_so_long(width, height, size):
    found = read_uncropped(encoded(Image.fromarray(gradient(width, height)), "PNG"), size, 3)
    short, long = sorted(found.shape[:2])
    assert short == min(size, width, height)
    assert abs(long - short * max(width, height) / min(width, height)) <= 0.5
    if min(width, height) <= size:
        assert torch.equal(found, torch.from_numpy(gradient(width, height)))


@pytest.mark.parametrize(
    ("size", "decoded"),
    [(150, (200, 150)), (149, (200, 150)), (300, (400, 300)), (151, (400, 300))],
)
def test_a_large_jpeg_is_decoded_at_a_fraction_but_never_below_the_size(size, decoded):
    photo = encoded(Image.fromarray(gradient(40, 30)).resize((1600, 1200)), "JPEG")
    assert decode(photo, 3, reduce_to=size).size == decoded
    assert decode(photo, 3).size == (1600, 1200)


def test_what_cannot_be_decoded_whole_is_named():
    with pytest.raises(ValueError, match=r"cannot read a/b\.jpg: .*not an image"):
        read_uncropped(b"no image", 8, 3, name="a/b.jpg")
    data = encoded(Image.fromarray(gradient(400, 300)), "JPEG")
    with pytest.raises(ValueError, match=r"cannot read a/b\.jpg: .*truncated"):
        read_uncropped(data[: len(data) // 2], 40, 3, name="a/b.jpg")
