"""Faults beside structure: initialisation, ownership, gradients, crashes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resnetlab.comparison.faults import (
    check_gradients,
    check_initialisation,
    check_ownership,
    explain_crash,
)
from resnetlab.comparison.report import Findings
from resnetlab.comparison.trace import trace_network
from resnetlab.models.resnet import create_model

IMAGES = torch.randn(2, 3, 32, 32)


def judged(change) -> Findings:
    model = create_model("resnet20")
    with torch.no_grad():
        change(model)
    found = Findings()
    check_initialisation(trace_network(model, IMAGES).live(), found)
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda m: None,
        lambda m: nn.init.zeros_(m.layer1[0].bn2.weight),
        lambda m: nn.init.zeros_(m.fc.weight),
        lambda m: nn.init.normal_(m.fc.weight, 0, 0.01),
        lambda m: [nn.init.xavier_uniform_(p) for p in m.parameters() if p.dim() == 4],
        lambda m: (m.bn1.weight.uniform_(), nn.init.normal_(m.conv1.weight, 0, 9)),  # trained
    ],
)
def test_legitimate_start(change) -> None:
    assert not judged(change).found


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m: nn.init.normal_(m.conv1.weight, 0, 5), "conv1"),
        (lambda m: nn.init.constant_(m.conv1.weight, 0.1), "conv1"),
        (lambda m: nn.init.zeros_(m.layer1[0].bn1.weight), "layer1.0.bn1"),
        (lambda m: nn.init.normal_(m.fc.weight, 0, 5), "fc"),
        (lambda m: (m.bn1.running_mean.add_(1), nn.init.normal_(m.conv1.weight, 0, 5)), "conv1"),
    ],
)
def test_start_that_is_far_off(change, place: str) -> None:
    (difference,) = judged(change).differences()
    assert difference.kind == "init"
    assert difference.places == (place,)


def test_norms_that_are_all_silent_are_dead_only_where_nothing_passes_them() -> None:
    def silence(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.zeros_(module.weight)
        model.bn1.bias.fill_(1)

    def open_stem(model: nn.Module) -> None:
        silence(model)
        model.bn1 = nn.Identity()

    (difference,) = judged(silence).differences()
    assert "all 19 batch norms start with scale 0: the features are the same" in difference.what
    assert len(difference.places) == 19
    assert "all" not in " ".join(row.what.split()[0] for row in judged(open_stem).differences())


def test_parameters_in_no_part_of_any_output_are_unused() -> None:
    model = create_model("resnet20")
    model.spare = nn.Linear(2, 3)
    model.layer1[0].relu.spare = nn.Linear(1, 1, bias=False)
    del model._modules["spare"]
    object.__setattr__(model, "kept", None)
    found = Findings()
    check_ownership(model, [trace_network(model, IMAGES)], found)
    (difference,) = found.differences()
    assert difference.what == "1 registered parameter without part in the output."


def test_frozen_layers_are_no_cut() -> None:
    model = create_model("resnet20")
    model.conv1.requires_grad_(False)
    found = Findings()
    check_gradients(trace_network(model, IMAGES, training=True), found)
    assert not found.found


def crash(*layers: nn.Module):
    trace = trace_network(nn.Sequential(*layers), torch.randn(2, 3, 32, 32))
    assert trace.crash is not None
    return explain_crash(trace.crash, 32)


@pytest.mark.parametrize(
    ("layers", "kind", "words"),
    [
        ((nn.Conv2d(3, 8, 3), nn.Conv2d(4, 8, 3)), "channels", "give it 8 input channels"),
        ((nn.Conv2d(3, 8, 3), nn.BatchNorm2d(4)), "channels", "channels of the convolution before"),
        ((nn.Conv2d(1, 8, 3),), "in-channels", "set `in_channels` to 1"),
        ((nn.AdaptiveAvgPool2d(1), nn.Linear(3, 2)), "missing-flatten", ""),
        ((nn.AdaptiveAvgPool2d(1), nn.Flatten(0), nn.Linear(3, 2)), "flatten-batch", ""),
        (
            (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
            "head-shape",
            "nn.Linear(3, ...)",
        ),
        ((nn.Flatten(), nn.Linear(4, 2)), "fixed-size", ""),
        ((nn.MaxPool2d(3, 2, 2),), "max-pool", ""),
        ((nn.AvgPool2d(64),), "fixed-size", ""),
    ],
)
def test_cause_of_a_crash(layers, kind: str, words: str) -> None:
    cause = crash(*layers)
    assert cause.kind == kind
    assert words in cause.remedy
    assert "nn.Linear(1" not in cause.remedy
