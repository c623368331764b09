import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, gradient, plain
from PIL import Image
from torchvision.transforms import v2

from resnetlab.data.images import (
    arrange,
    normalize,
    read_image,
    read_uncropped,
)
from resnetlab.preprocessing import Preprocessing, decode


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
