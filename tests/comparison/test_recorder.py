"""The recorder: places, hidden modules, weights and where they come from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from resnetlab.comparison.recorder import is_candidates_own
from resnetlab.comparison.trace import trace_network

IMAGES = torch.randn(2, 3, 16, 16)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [nn.Conv2d(3, 4, 3)]
        self.register_buffer("held", torch.randn(4, 4, 3, 3))

    def forward(self, x):
        x = self.hidden[0](x)
        return F.conv2d(x, self.held).mean((2, 3))


def test_hidden_modules_have_a_path_and_are_unregistered() -> None:
    trace = trace_network(Net(), IMAGES)
    assert trace.unregistered == {"hidden[0].weight": 108, "hidden[0].bias": 4}
    conv, held = (node for node in trace.nodes if node.kind == "conv")
    assert conv.place == "hidden[0]"
    assert held.settings["held"] == "held"
    assert held.location is not None
    assert held.location[0] == __file__


def test_lines_of_a_library_are_theirs_and_not_of_who_called_us() -> None:
    trace = trace_network(torchvision.models.resnet18(), torch.randn(2, 3, 64, 64))
    files = {node.location[0] for node in trace.nodes if node.location}
    assert files
    assert all("torchvision" in file for file in files)
    assert not is_candidates_own(torch.__file__)
    assert is_candidates_own(torchvision.__file__)


class Cast(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight * 2).flatten(1)


def test_a_weight_made_on_the_way_is_computed_and_a_turned_one_is_not() -> None:
    trace = trace_network(nn.Sequential(Cast(3, 4, 3, bias=False), nn.Linear(784, 5)), IMAGES)
    computed = {node.kind: node.settings.get("computed") for node in trace.nodes[1:]}
    assert computed == {"conv": True, "linear": False}


def test_padding_mode_is_read_of_the_module() -> None:
    for mode in ("reflect", "replicate", "circular"):
        conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode)
        trace = trace_network(nn.Sequential(conv, nn.Flatten()), IMAGES)
        (node,) = (node for node in trace.live() if node.kind == "conv")
        assert node.settings["padding mode"] == mode
        assert node.settings["padding"] == (1, 1)
        assert [parent.kind for parent in node.inputs] == ["input"]
