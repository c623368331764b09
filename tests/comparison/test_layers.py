"""Rows side by side."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetlab.comparison import compare_models
from resnetlab.comparison.layers import align
from resnetlab.comparison.report import a
from resnetlab.models.resnet import create_model


@pytest.mark.parametrize(
    ("one", "two", "pairs"),
    [
        ("abc", "abc", "aa bb cc"),
        ("abbc", "abc", "aa bb b- cc"),
        ("ac", "abc", "aa -b cc"),
        ("", "ab", "-a -b"),
    ],
)
def test_alignment_keeps_the_first_with_the_first(one: str, two: str, pairs: str) -> None:
    rows = align(one, two, lambda x, y: 0.0 if x == y else 9.0, lambda x: 1.0)
    assert " ".join(f"{x or '-'}{y or '-'}" for x, y in rows) == pairs


def test_article() -> None:
    assert a("average pooling") == "an average pooling"
    assert a("max pool") == "a max pool"


def stem(*layers: nn.Module) -> nn.Module:
    model = create_model("resnet20")
    model.conv1 = nn.Sequential(*layers)
    return model


def head(*layers: nn.Module) -> nn.Module:
    model = create_model("resnet20")
    model.fc = nn.Sequential(*layers)
    return model


class Power(nn.Module):
    def forward(self, x):
        return x.clamp(min=1e-6).pow(3).mean((2, 3), keepdim=True).pow(1 / 3)


def general_mean() -> nn.Module:
    model = create_model("resnet20")
    model.avgpool = Power()
    return model


class Lighter(nn.Module):
    def forward(self, x):
        return (x - 0.5) / 0.25


class Doubled(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(torch.cat([x, x], 1), 1)


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (stem(Lighter(), nn.Conv2d(3, 16, 3, 1, 1, bias=False)), ["normalised-input"]),
        (stem(Doubled(), nn.Conv2d(6, 16, 3, 1, 1, bias=False)), ["repeated-input"]),
        (stem(nn.Conv2d(3, 16, 3, 1, 1)), ["bias-before-norm"]),
        (stem(nn.Conv2d(3, 16, 5, 1, 2)), ["bias-before-norm", "stem"]),
        (head(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), ["extra-layer"]),
        (head(nn.Linear(64, 10), nn.Softmax(1)), ["softmax"]),
        (general_mean(), ["pooling"]),
    ],
)
def test_kinds(model: nn.Module, kinds: list[str]) -> None:
    comparison = compare_models(model, num_classes=10, image_size=32)
    assert [difference.kind for difference in comparison.differences] == kinds


def test_classifier_before_the_pooling_is_the_same_function() -> None:
    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.classify = create_model("resnet20"), nn.Conv2d(64, 10, 1)
            del self.body.fc

        def forward(self, x):
            return self.classify(self.body.forward_features(x)).mean((2, 3))

    assert compare_models(Early()).verdict == "equivalent"


def bordered(model: nn.Module, place: str, border: tuple[int, ...]) -> None:
    """Take a layer's padding out of it and put it before it."""
    layer = model.get_submodule(place)
    low = float("-inf") if isinstance(layer, nn.MaxPool2d) else 0.0
    layer.padding = 0 if isinstance(layer, nn.MaxPool2d) else (0, 0)
    model.set_submodule(place, nn.Sequential(nn.ConstantPad2d(border, low), layer))


@pytest.mark.parametrize(
    ("pooled", "convolved", "told"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
        ((0, 1, 0, 1), (0, 1, 0, 1), {"padding": "as TensorFlow's"}),
        ((0, 1, 0, 1), (1, 1, 1, 1), {"padding": "as TensorFlow's"}),
        ((1, 1, 1, 1), (1, 0, 1, 0), {"padding": "padding 1 left, 0 right, 1 above and 0 below"}),
        ((1, 0, 1, 0), (1, 1, 1, 1), {"max-pool": "padding 1 left, 0 right, 1 above and 0 below"}),
    ],
)
def test_padding_before_the_layer(pooled, convolved, told: dict[str, str]) -> None:
    model = create_model("resnet18", num_classes=10)
    bordered(model, "maxpool", pooled)
    for stage in (2, 3, 4):
        bordered(model, f"layer{stage}.0.conv1", convolved)
    differences = compare_models(model, image_size=64).differences
    assert [difference.kind for difference in differences] == [*told]
    for difference in differences:
        assert told[difference.kind] in difference.what
