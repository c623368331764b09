"""The corruptions against those of imagecorruptions-imaug, and their own rules."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab.data.catalogue import load_dataset
from resnetlab.evaluation.corrupting import Draws
from resnetlab.evaluation.corruptions import CORRUPTIONS, SEVERITIES, apply, corrupt

RECORDED = np.load(Path(__file__).parent / "fixtures" / "corruptions.npz")
SEEDED = ("impulse_noise", "glass_blur")


class Legacy(np.random.RandomState):
    """Numpy's old generator, which the package draws from, by the new one's names."""

    def integers(self, low, high, size):
        return self.randint(low, high, size=size)


@pytest.mark.parametrize("severity", [2, 5])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_public_package_makes_the_same_of_an_image(name, severity):
    """To rounding; a blur's or a field's last bits may turn a pixel by one of 255."""
    image = torch.from_numpy(RECORDED["image"]).permute(2, 0, 1)[None]
    source = np.random.default_rng if name == "impulse_noise" else Legacy
    ours = apply(image, name, severity, Draws([source(severity)]))[0].permute(1, 2, 0).numpy()
    ours, theirs = (x.astype(int) for x in (ours[::2, ::2], RECORDED[f"{name}_{severity}"]))
    if name == "frost":  # a texture of ours: as dark, and about as rough
        assert abs(ours.mean() - theirs.mean()) < 25
        assert 0.5 < ours.std() / theirs.std() < 2
        return
    assert np.abs(ours - theirs).max() <= 2, np.abs(ours - theirs).max()
    assert (ours != theirs).mean() < 0.05


@pytest.fixture(params=["cifar10-sample", "fashion-mnist-sample"])
def data(request, samples):
    return load_dataset(request.param, "test", data_dir=samples)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_happens_to_an_image_follows_from_its_number(name, data):
    """Whatever batch it stands in; with 3 channels or with 1."""
    numbers = torch.tensor([7, 3, 20])
    images, _ = data.batch(numbers)
    together = corrupt(images, name, 3, numbers.tolist())
    assert (together.shape, together.dtype) == (images.shape, torch.uint8)
    alone = corrupt(images[1:2], name, 3, [3])
    assert (together[1].int() - alone[0].int()).abs().max() <= 1
    assert not torch.equal(together, images)
    again = corrupt(images, name, 3, numbers.tolist())
    assert torch.equal(together, again)
    random = name not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate")
    random &= name != "jpeg_compression"
    other = corrupt(images, name, 3, numbers.tolist(), seed=1)
    assert torch.equal(together, other) != random


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_counts(name, samples):
    """The milder the nearer to the image, of small images and of large ones."""
    images, _ = load_dataset("cifar10-sample", "test", data_dir=samples).batch(torch.arange(8))
    large = torch.nn.functional.interpolate(images.float(), 96, mode="bicubic").clamp(0, 255).byte()
    for pixels in (images, large):
        away = [
            float((corrupt(pixels, name, s, range(8)).float() - pixels.float()).abs().mean())
            for s in SEVERITIES
        ]
        assert away[0] > 0.3
        assert away[4] > away[0] or name in ("elastic_transform", "snow")
