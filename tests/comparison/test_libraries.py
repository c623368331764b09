"""The big libraries' ResNets: each is what its authors say it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torchvision
from torch import nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d
from transformers import ResNetConfig, ResNetForImageClassification

from resnetlab.comparison import Comparison, compare_models
from resnetlab.models.resnet import create_model

SIZE = 64
"""Pixels: what the answers rest on is seen in small images too."""
SMALL = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}


def vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, **options)


def images(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, **options)


def face(**options: Any) -> Callable[[], nn.Module]:
    return lambda: ResNetForImageClassification(ResNetConfig(num_labels=10, **options))


EQUAL: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "torchvision resnet18": (vision("resnet18"), "resnet18"),
    "torchvision resnet34, 10 classes": (
        vision("resnet34", num_classes=10),
        "resnet34 (num_classes=10)",
    ),
    "torchvision resnet50": (vision("resnet50"), "resnet50"),
    "timm resnet18": (images("resnet18"), "resnet18"),
    "timm resnet18d": (images("resnet18d"), "resnet18d"),
    "timm, one channel": (images("resnet18", in_chans=1), "resnet18 (in_channels=1)"),
    "timm, groups": (images("resnet50", cardinality=32, base_width=4), "resnext50_32x4d"),
    "timm resnetv2_50": (images("resnetv2_50"), "resnet50 (activation=pre)"),
    "transformers, basic": (face(layer_type="basic", **SMALL), "resnet18 (num_classes=10)"),
    "transformers, v1": (face(downsample_in_bottleneck=True), "resnet50_v1 (num_classes=10)"),
}
DIFFERENT: dict[str, tuple[Callable[[], nn.Module], str, list[str]]] = {
    "timm gn": (images("resnet50_gn"), "resnet50", ["norm-type"]),
    "timm se": (images("seresnet18"), "resnet18", ["extra-operation"]),
    "timm eca": (images("ecaresnet26t"), "resnet50d", ["depth", "stem", "extra-operation"]),
    "timm aa": (images("resnetaa50"), "resnet50", ["max-pool", "stride-by-pooling"]),
    "timm blur": (images("resnetblur18"), "resnet18", ["stride-by-pooling", "stride-by-pooling"]),
    "timm features": (images("resnet18", features_only=True), "resnet18", ["no-classifier"]),
    "timm dropout": (images("resnet18", drop_rate=0.2), "resnet18", ["dropout"]),
    "timm drop path": (images("resnet18", drop_path_rate=0.2), "resnet18", ["dropout"]),
    "torchvision frozen": (
        vision("resnet18", norm_layer=FrozenBatchNorm2d),
        "resnet18",
        ["norm-statistics"],
    ),
}
STRANGE = ("vgg11_bn", "squeezenet1_1", "mobilenet_v2", "regnet_x_400mf", "shufflenet_v2_x0_5")


def kinds(comparison: Comparison) -> list[str]:
    return [difference.kind for difference in comparison.differences]


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name: str) -> None:
    maker, reference = EQUAL[name]
    comparison = compare_models(maker(), image_size=SIZE)
    assert kinds(comparison) == []
    assert comparison.reference == reference
    assert comparison.verdict in ("identical", "equivalent")
    assert comparison.parameters == comparison.reference_parameters


def test_wide_resnet_of_torchvision() -> None:
    wide = torchvision.models.ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=128)
    whole = create_model("wide_resnet50_2", depths=(1, 1, 1, 1))
    assert compare_models(wide, whole, image_size=SIZE).verdict == "identical"


@pytest.mark.parametrize("name", DIFFERENT)
def test_different(name: str) -> None:
    maker, reference, right = DIFFERENT[name]
    comparison = compare_models(maker(), image_size=SIZE)
    assert kinds(comparison) == right
    assert comparison.reference == reference
    assert comparison.is_resnet


@pytest.mark.parametrize("name", STRANGE)
def test_another_family(name: str) -> None:
    comparison = compare_models(vision(name)(), image_size=SIZE)
    assert comparison.differences[0].kind == "not-a-resnet"
    assert len(comparison.telling) <= 6
