import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetlab.compute.execution import Execution
from resnetlab.data.images import normalize
from resnetlab.inference.backends import TorchBackend
from resnetlab.inference.tta import logits_with_tta
from resnetlab.models.resnet import create_model
from resnetlab.preprocessing import Preprocessing


def pixels(n=4, size=8):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


class Corner(nn.Module):
    """Its logits are the two pixels in the upper corners, so that every view shows."""

    def forward(self, x):
        return torch.stack((x[:, 0, 0, 0], x[:, 0, 0, -1]), 1)


@pytest.mark.parametrize("tta", ["none", "flip", "flip-shift"])
def test_test_time_augmentation_averages_the_views(tta):
    images = pixels()
    x = images[:, 0].float() / 255

    def corners(rows):
        return torch.stack((rows[:, 0], rows[:, -1]), 1)

    def with_mirror(row):
        return (corners(row) + corners(row.flip(1))) / 2

    # A pixel up and left of the corner is its reflection; down and right, the row below.
    before = torch.cat((x[:, 1, 1:2], x[:, 1, :-1]), 1)
    after = torch.cat((x[:, 1, 1:], x[:, 1, -2:-1]), 1)
    wanted = {
        "none": corners(x[:, 0]),
        "flip": with_mirror(x[:, 0]),
        "flip-shift": with_mirror(x[:, 0]) / 2 + (with_mirror(before) + with_mirror(after)) / 4,
    }[tta]
    raw = Preprocessing(mean=(0,) * 3, std=(1,) * 3, size=8)
    backend = TorchBackend(model=Corner(), classes=("left", "right"), preprocessing=raw)
    torch.testing.assert_close(logits_with_tta(backend, images, tta), wanted)


@pytest.mark.parametrize("words", ["plain", "channels_last", "bf16,channels_last"])
@pytest.mark.parametrize("size", [5, 32])
def test_views_of_pixels_are_views_of_what_the_network_sees(words, size):
    """Mirrored and shifted before or after the normalisation: the same to the bit."""
    torch.manual_seed(0)
    model, execution = create_model("resnet20").eval(), Execution.parse(words)
    execution.place(model)
    usual = Preprocessing(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26), size=size)
    backend = TorchBackend(model=model, classes=(), preprocessing=usual, execution=execution)
    images = pixels(size=size)

    x = normalize(images, usual, memory_format=execution.memory_format)
    wide = F.pad(x, (1, 1, 1, 1), "reflect")
    views = [x, wide[:, :, :size, :size], wide[:, :, 2:, 2:]]
    with torch.inference_mode(), execution.autocast():
        one, up, down = [(model(v).float() + model(v.flip(3)).float()) / 2 for v in views]
    assert torch.equal(logits_with_tta(backend, images, "flip"), one)
    assert torch.equal(logits_with_tta(backend, images, "flip-shift"), one / 2 + (up + down) / 4)
