"""The corruptions against those of the public package imagecorruptions-imaug, and their own rules."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.data.catalogue import load_dataset
from resnetlab.evaluation.corruptions import CORRUPTIONS, SEVERITIES, apply, corrupt
from resnetlab.evaluation.corrupting import Draws

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
