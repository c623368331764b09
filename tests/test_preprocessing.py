"""Our pixels against those of torchvision and timm, from files, for all of their ResNets."""

import io

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform, resolve_data_config

from resnetlab.data.images import normalize, read_image
from resnetlab.errors import UserError
from resnetlab.inference.predictor import Predictor
from resnetlab.preprocessing import Preprocessing, decode
from resnetlab.weights.checkpoint import load_checkpoint
from resnetlab.weights.hub import preprocessing_of_timm, preprocessing_of_torchvision

SHAPES = [
    *((640, 480), (480, 640), (500, 375), (224, 224), (256, 256), (225, 231), (100, 80)),
    (1000, 301),
    (301, 1000),
    (33, 250),
]
"""Width and height: upright and lying, square, smaller and narrower than a network's images."""


def photograph(width, height, seed):
    """Smooth areas, edges and noise in three channels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = random.normal(0, 12, (height, width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def files():
    """Twenty encoded photographs: ten shapes, each as JPEG and as PNG."""
    encoded = []
    for number, shape in enumerate(SHAPES):
        for format in ("JPEG", "PNG"):
            file = io.BytesIO()
            photograph(*shape, number).save(file, format)
            encoded.append(file.getvalue())
    return encoded


def decoded(file):
    return Image.open(io.BytesIO(file)).convert("RGB")


def torchvision_weights():
    for name in torchvision.models.list_models(torchvision.models, include="*resne*"):
        yield from torchvision.models.get_model_weights(name)


def timm_configurations():
    """Each way of preparing an image that timm's ResNets use, by the name of one that does."""
    found = {}
    for name in timm.list_models("*", module="resnet", pretrained=True):
        config = timm.get_pretrained_cfg(name).to_dict()
        found.setdefault(str(resolve_data_config({}, pretrained_cfg=config)), (name, config))
    return dict(found.values())


TIMM = timm_configurations()


def test_there_is_something_to_compare():
    assert len(list(torchvision_weights())) >= 15
    assert len({str(weight.transforms()) for weight in torchvision_weights()}) >= 2
    assert len(TIMM) >= 8


@pytest.mark.parametrize("weight", list(torchvision_weights()), ids=str)
def test_pixels_are_torchvisions_to_the_bit(weight, files):
    transforms = weight.transforms()
    ours = Preprocessing(**preprocessing_of_torchvision(transforms))
    mean, std = transforms.mean, transforms.std
    for file in files:
        pixels = read_image(file, ours)
        transforms.mean, transforms.std = [0.0] * 3, [1.0] * 3
        theirs = (transforms(decoded(file)) * 255).round().byte()
        assert torch.equal(pixels, theirs)
        # Normalised, both round in float32, in another order.
        transforms.mean, transforms.std = mean, std
        difference = normalize(pixels[None], ours)[0] - transforms(decoded(file))
        assert difference.abs().max() < 1e-6


@pytest.mark.parametrize("name", TIMM)
def test_pixels_are_timms_to_the_bit(name, files):
    config = TIMM[name]
    theirs = resolve_data_config({}, pretrained_cfg=config)
    raw, transform = create_transform(**theirs, normalize=False), create_transform(**theirs)
    ours = Preprocessing(**preprocessing_of_timm(config))
    for file in files:
        pixels = read_image(file, ours)
        assert torch.equal(pixels, raw(decoded(file)))
        difference = normalize(pixels[None], ours)[0] - transform(decoded(file))
        assert difference.abs().max() < 1e-6


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("share", [0.875, 1.0])
def test_all_crop_modes_of_timm(mode, share, files):
    """Also those that no ResNet of theirs happens to use."""
    config = {"mean": (0.2, 0.5, 0.7), "std": (0.2, 0.2, 0.2), "input_size": (3, 160, 160)}
    config |= {"crop_mode": mode, "crop_pct": share, "interpolation": "bilinear"}
    theirs = create_transform(**resolve_data_config({}, pretrained_cfg=config), normalize=False)
    ours = Preprocessing(**preprocessing_of_timm(config))
    for file in files:
        assert torch.equal(read_image(file, ours), theirs(decoded(file)))


def test_logits_are_those_of_torchvisions_own_pipeline(files, tmp_path, monkeypatch):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    weight = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    path = tmp_path / "checkpoints" / weight.url.rsplit("/", 1)[-1]
    path.parent.mkdir()
    torch.save(theirs.state_dict(), path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    checkpoint = load_checkpoint("resnet18:IMAGENET1K_V1")
    predictor = Predictor(checkpoint, execution="plain")
    pixels = torch.stack([predictor.read(file) for file in files])
    with torch.inference_mode():
        transforms = weight.transforms()
        wanted = theirs(torch.stack([transforms(decoded(file)) for file in files]))
        ours = checkpoint.build()(normalize(pixels, checkpoint.preprocessing))
    scale = wanted.abs().max()
    assert (ours - wanted).abs().max() < 1e-6 * scale
    assert (predictor.logits(pixels) - wanted).abs().max() < 1e-5 * scale  # batch norms folded


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    size=st.integers(1, 24),
    larger=st.integers(0, 9),
    crop=st.sampled_from(["center", "squash", "letterbox"]),
    mode=st.sampled_from(["L", "RGB"]),
)
def test_every_image_becomes_the_square_that_the_network_sees(
    width, height, size, larger, crop, mode
):
    channels = len(mode) if mode == "RGB" else 1
    preprocessing = Preprocessing(
        mean=(0.5,) * channels, std=(0.1,) * channels, size=size, resize=size + larger, crop=crop
    )
    image = Image.new(mode, (width, height), 128 if mode == "L" else (128, 128, 128))
    arranged = preprocessing.arrange(image)
    assert (arranged.size, arranged.mode) == ((size, size), mode)
    assert np.unique(arranged).tolist() == [128]  # what a letterbox adds is the mean colour


@pytest.mark.parametrize("crop", ["center", "squash", "letterbox"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_large_jpegs_are_decoded_small_to_nearly_the_same_pixels(crop, interpolation):
    """Smooth colours with a camera's noise, an edge, and turned by EXIF."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((1000, 740), Image.Resampling.BICUBIC)).astype(int)
    pixels[:, 500:] //= 2
    pixels = np.clip(pixels + random.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=92, exif=exif)
    preprocessing = Preprocessing(
        mean=(0.5,) * 3, std=(0.1,) * 3, size=48, resize=56, crop=crop, interpolation=interpolation
    )
    full = np.asarray(preprocessing.arrange(decode(file.getvalue(), 3))).astype(int)
    found = np.asarray(preprocessing.read(file.getvalue())).astype(int)
    difference = np.abs(full - found)
    assert difference.mean() < 1
    assert difference.max() <= 8
    assert (difference.max() == 0) == (interpolation == "nearest")


def test_a_jpeg_of_less_than_six_times_the_size_is_decoded_whole():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (335, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=92)
    preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.1,) * 3, size=56)
    full = preprocessing.arrange(decode(file.getvalue(), 3))
    assert np.array_equal(preprocessing.read(file.getvalue()), full)


def test_it_comes_back_from_plain_values():
    one = Preprocessing(mean=(0.5,), std=(0.2,), size=28, resize=32, interpolation="lanczos")
    assert Preprocessing.from_dict(one.to_dict()) == one


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"std": (0.0,)}, "`std` must be greater than 0"),
        ({"mean": (0.1, 0.2)}, "`mean` and `std` go together"),
        ({"size": 0}, "`size` must be at least 1"),
        ({"resize": 20}, "`resize` must be at least the 28 pixels"),
        ({"crop": "corner"}, "crop.* must be one of center, squash, letterbox"),
        ({"interpolation": "cubic"}, "interpolation.* must be one of nearest"),
    ],
)
def test_what_is_impossible_is_a_sentence(changes, words):
    with pytest.raises(UserError, match=words):
        Preprocessing(**{"mean": (0.5,), "std": (0.2,), "size": 28} | changes)
