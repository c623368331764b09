"""Many ways to write an operation or a layer, one kind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetlab.comparison.operations import WORDS, Node, recognise
from resnetlab.comparison.trace import trace_network

WEIGHT, BIAS = torch.randn(16, 5), torch.randn(5)


class Written(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.w, self.b = nn.Parameter(torch.randn(16, 5)), nn.Parameter(torch.randn(5))
        self.k, self.c = nn.Parameter(torch.randn(4, 16, 3, 3)), nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x):
        return self.function(self, x)


def patches(net, x):
    return (net.k.flatten(1) @ F.unfold(x, 3, padding=1)).view(len(x), 4, *x.shape[2:])


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda net, x: x.clamp(min=0), "relu"),
        (lambda net, x: torch.maximum(x, torch.zeros(())), "relu"),
        (lambda net, x: torch.where(x > 0, x, torch.zeros(())), "relu"),
        (lambda net, x: x * (x > 0), "relu"),
        (lambda net, x: F.threshold(x, 0, 0), "relu"),
        (lambda net, x: torch.stack([x, F.relu(x)]).sum(0), "add"),
        (lambda net, x: F.conv2d(x, net.k, padding="valid"), "conv"),
        (lambda net, x: torch.maximum(x, torch.ones(())), "maximum"),
        (lambda net, x: F.adaptive_avg_pool2d(x, 1), "globalpool"),
        (lambda net, x: x.mean(-1).mean(-1), "globalpool"),
        (lambda net, x: F.avg_pool2d(x, 8), "globalpool"),
        (lambda net, x: x.sum((2, 3)) / 64, "globalpool"),
        (lambda net, x: x.sum((2, 3)) / 60, "scale"),
        (lambda net, x: F.conv2d(x, net.k, padding=1) + net.c, "conv"),
        (patches, "conv"),
        (lambda net, x: x.mean((2, 3)) @ net.w + net.b, "linear"),
        (lambda net, x: x - 1, "shift"),
        (lambda net, x: x / 2, "scale"),
        (lambda net, x: F.avg_pool2d(x, 1), "input"),
        (lambda net, x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), "input"),
        (lambda net, x: torch.add(x, F.relu(x), alpha=0.1), "add"),
        (lambda net, x: F.relu6(x), "act"),
        (lambda net, x: x.clamp(0, 6), "act"),
        (lambda net, x: F.relu(x).clamp(max=6), "act"),
        (lambda net, x: x.clamp(max=6), "clamp"),
    ],
)
def test_kind(function, kind: str) -> None:
    trace = trace_network(Written(function), torch.randn(2, 16, 8, 8))
    assert trace.crash is None
    assert trace.output is not None
    assert trace.output.kind == kind


def test_a_bias_added_by_hand_belongs_to_the_layer() -> None:
    trace = trace_network(
        Written(lambda net, x: x.mean((2, 3)) @ net.w + net.b), torch.randn(2, 16, 8, 8)
    )
    assert trace.output is not None
    assert trace.output.names == ("b", "w")
    assert trace.output.settings["bias"]


def test_no_raw_name_is_said() -> None:
    assert Node("div", []).words == "division"
    assert Node("fft", []).words == "call of torch.fft"
    assert all(" " in words or words.isalpha() or "-" in words for words in WORDS.values())


@pytest.mark.parametrize(
    ("function", "mixed"),
    [
        (lambda net, x: x.mean((2, 3)), False),
        (lambda net, x: x.flatten(2).mean(-1), False),
        (lambda net, x: x.permute(0, 2, 3, 1).flatten(1, 2).mean(1), False),
        (lambda net, x: x.transpose(1, 2).mean((1, 3)), False),
        (lambda net, x: x.view(2, 64, 16).mean(1), True),
        (lambda net, x: x.view(2, 16, 64).sum(1) / 16, True),
        (lambda net, x: x.mean((1, 2)), True),
    ],
)
def test_a_mean_of_something_else_than_the_maps_is_seen(function, mixed: bool) -> None:
    trace = trace_network(Written(function), torch.randn(2, 16, 8, 8))
    assert any(node.settings.get("mixed") for node in trace.nodes) == mixed


def test_the_activation_with_a_ceiling_has_a_name() -> None:
    names = []
    for ceiling in (6, 4):
        network = Written(lambda net, x, top=ceiling: x.clamp(0, top))
        output = trace_network(network, torch.randn(2, 16, 8, 8)).output
        assert output is not None
        names.append(output.words)
    assert names == ["ReLU6", "ReLU with a ceiling of 4"]


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
