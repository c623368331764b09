"""The same network for other classes and other input channels."""

import pytest
import torch

from resnetlab.models.adaptation import adapt, replace_head, replace_input
from resnetlab.models.resnet import create_model


@pytest.mark.parametrize("name", ["resnet20", "resnet18d"])
def test_average_of_the_input_channels(name):
    model = create_model(name).double().eval()
    grey = torch.randn(2, 1, 33, 33, dtype=torch.float64)
    with torch.no_grad():
        expected = model(grey.expand(-1, 3, -1, -1))
        assert replace_input(model, 1) is model
        torch.testing.assert_close(model(grey), expected)
        assert replace_input(model, 4)(grey.expand(-1, 4, -1, -1)).shape == expected.shape
    assert model.architecture.in_channels == 4


def test_repeated_input_channels():
    model = create_model("resnet20").double().eval()
    images = torch.randn(2, 3, 33, 33, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
        replace_input(model, 6, "repeat")
        torch.testing.assert_close(model(images.repeat(1, 2, 1, 1)), expected)
    with pytest.raises(ValueError, match="average or repeat"):
        replace_input(model, 3, "mean")


def test_adapting_keeps_what_is_right_already():
    model = create_model("resnet20")
    head = model.fc
    assert adapt(model, num_classes=10, in_channels=3).fc is head
    assert replace_head(model, 3).fc is not head
    with pytest.raises(ValueError, match="num_classes must be a positive"):
        replace_head(model, 0)
    assert model.architecture.num_classes == 3


def test_a_whitening_stem_keeps_its_input_channels():
    model = create_model("fast_resnet8")
    with pytest.raises(ValueError, match="keeps its 3 input channels"):
        replace_input(model, 1)
    assert adapt(model, num_classes=4, in_channels=3).architecture.num_classes == 4
