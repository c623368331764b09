"""Layers written by hand are recognised by what they do, and by nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetlab.comparison.handmade import recognise
from resnetlab.comparison.operations import Node


class Layer(nn.Module):
    def __init__(self, function, *shapes):
        super().__init__()
        self.function = function
        for i, shape in enumerate(shapes):
            self.register_parameter(f"p{i}", nn.Parameter(torch.rand(shape) + 0.5))

    def forward(self, x):
        return self.function(self, x)


def normalised(layer, x):
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * layer.p0 + layer.p1


def strided(layer, x):
    return F.conv2d(x, layer.p0, None, 2, 1)


VECTOR = (1, 4, 1, 1)


@pytest.mark.parametrize(
    ("layer", "kind", "settings"),
    [
        (Layer(normalised, VECTOR, VECTOR), "norm", {"training": True}),
        (
            Layer(lambda m, x: (x - m.p0) / m.p1 * m.p2 + m.p3, *[VECTOR] * 4),
            "norm",
            {"training": False},
        ),
        (
            Layer(lambda m, x: F.conv2d(x, m.p0, None, 2, 1), (6, 4, 3, 3)),
            "conv",
            {"stride": (2, 2)},
        ),
        (Layer(lambda m, x: F.max_pool2d(x, 3, 2, 1)), "maxpool", {"padding": (1, 1)}),
        (Layer(lambda m, x: x * (x > 0)), "relu", {}),
        (Layer(lambda m, x: x.flatten(2).sum(-1) / 64), "globalpool", {}),
    ],
)
def test_recognised(layer, kind: str, settings: dict) -> None:
    x = torch.randn(3, 4, 8, 8)
    found = recognise(layer, x, layer(x), Node("input", []))
    assert found is not None
    assert found.kind == kind
    assert settings.items() <= found.settings.items()


@pytest.mark.parametrize(
    "layer",
    [
        Layer(lambda m, x: x * m.p0, VECTOR),  # a scale is no norm
        Layer(lambda m, x: x.tanh()),
        Layer(lambda m, x: F.conv2d(x, m.p0 + 1, None, 2, 1), (6, 4, 3, 3)),
        Layer(lambda m, x: normalised(m, x) ** 2, VECTOR, VECTOR),
    ],
)
def test_not_recognised(layer) -> None:
    x = torch.randn(3, 4, 8, 8)
    assert recognise(layer, x, layer(x), Node("input", [])) is None
