"""Stems and heads: each difference is said, none hides another."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetlab.comparison import compare_models
from resnetlab.models.resnet import create_model


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
