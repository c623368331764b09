"""The shortcuts of the papers."""

import pytest
import torch

from resnetlab.models.resnet import create_model
from resnetlab.models.shortcuts import ShortcutA


def test_shortcut_a_pads_with_zeros_and_has_no_parameters() -> None:
    shortcut = ShortcutA(3, 8, stride=2)
    images = torch.randn(2, 3, 5, 7)
    out = shortcut(images)
    assert out.shape == (2, 8, 3, 4)
    assert torch.equal(out[:, 2:5], images[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 5:].any()
    assert list(shortcut.parameters()) == []


@pytest.mark.parametrize("option", ["A", "B", "C", "D"])
def test_each_shortcut_option_projects_where_the_paper_says(option: str) -> None:
    model = create_model("resnet20", shortcut=option)
    projections = [
        n for n, m in model.named_modules() if n.endswith("downsample.0") and len([*m.parameters()])
    ]
    wanted = {"A": 0, "B": 2, "C": 9, "D": 0}[option]
    assert len(projections) == wanted
    if option == "D":  # pooling first, then the projection
        assert sum("downsample.1.weight" in key for key in model.state_dict()) == 2
