"""Stem, blocks and head of networks whose structure is known."""

from __future__ import annotations

import pytest
import torch
from strangers import Paths
from torch import nn

from resnetlab.comparison.structure import parse
from resnetlab.comparison.trace import trace_network
from resnetlab.models.resnet import create_model


def structure(model: nn.Module, size: int = 32):
    output = trace_network(model, torch.randn(2, 3, size, size)).output
    assert output is not None
    return parse(output)


@pytest.mark.parametrize(
    ("name", "options", "units", "style", "stem"),
    [
        ("resnet20", {}, 9, "post", 3),
        ("plain20", {}, 9, "post", 3),
        ("preresnet110", {"depths": (2, 2, 2)}, 6, "pre", 1),
        ("preresnet110", {"depths": (2, 2, 2), "shortcut": "B"}, 6, "pre", 1),
        ("preresnet164", {"depths": (2, 2, 2)}, 6, "pre", 1),
        ("resnet18", {}, 8, "post", 4),
        ("resnet18d", {}, 8, "post", 10),
        ("resnet50", {"depths": (1, 1, 1, 1)}, 4, "post", 4),
    ],
)
def test_parts(name: str, options: dict, units: int, style: str, stem: int) -> None:
    parsed = structure(create_model(name, **options), 64)
    assert len(parsed.units) == units
    assert parsed.style == style
    assert len(parsed.stem) == stem
    assert [node.kind for node in parsed.head][-2:] == ["globalpool", "linear"]


@pytest.mark.parametrize(
    ("shortcut", "kinds"),
    [
        ("A", ["identity", "pad"]),
        ("B", ["identity", "projection"]),
        ("C", ["projection", "projection"]),
        ("D", ["identity", "pooled projection"]),
        ("none", ["none", "none"]),
    ],
)
def test_shortcuts(shortcut: str, kinds: list[str]) -> None:
    parsed = structure(create_model("resnet20", shortcut=shortcut))
    assert [parsed.units[i].shortcut_kind for i in (1, 3)] == kinds
    assert [parsed.units[i].stride for i in (2, 3, 4, 6)] == [1, 2, 1, 2]
    assert [unit.out for unit in parsed.units] == [16] * 3 + [32] * 3 + [64] * 3


def test_names_of_units_are_module_paths() -> None:
    parsed = structure(create_model("resnet20"))
    assert parsed.name(parsed.units[4]) == "layer2.1"


def test_a_gate_is_one_operation() -> None:
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)

        def forward(self, x):
            x = self.conv(x)
            x = x * torch.sigmoid(self.fc(x.mean((2, 3))))[:, :, None, None]
            return x.mean((2, 3))

    parsed = structure(Gated())
    assert [node.kind for node in parsed.layers] == ["conv", "gate", "globalpool"]


def test_a_relu_after_the_max_pool_is_the_same() -> None:
    model = create_model("resnet18", depths=(1, 1, 1, 1))
    model.relu, model.maxpool = nn.Identity(), nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.ReLU())
    assert [node.kind for node in structure(model, 64).stem] == ["conv", "norm", "relu", "maxpool"]


class Headed(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 64, 3), block

    def forward(self, x):
        return self.block(self.stem(x).relu()).mean((2, 3))


def test_equal_paths_that_are_added_are_one_path_of_groups() -> None:
    parsed = structure(Headed(Paths(64, 128, 1, paths=4)))
    (unit,) = parsed.units
    assert [conv.settings["groups"] for conv in unit.convs] == [1, 4, 1]
    assert [conv.settings["out"] for conv in unit.convs] == [8, 8, 128]
    assert [conv.settings["in"] for conv in unit.convs] == [64, 8, 8]
    assert [node.kind for node in unit.branch][-1] == "norm"
    assert unit.shortcut_kind == "projection"


def test_few_or_unlike_paths_are_none() -> None:
    block = Paths(64, 128, 1, paths=2)
    block.paths.append(nn.Conv2d(64, 128, 3, padding=1))
    parsed = structure(Headed(block))
    assert not any(conv.settings.get("paths") for unit in parsed.units for conv in unit.convs)
