"""The first run: sizes, channels, what is refused, why a pass ended."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resnetlab.comparison.kinds import Findings
from resnetlab.comparison.running import explain_crash, first_run, refuse, unwrap
from resnetlab.comparison.trace import trace_network
from resnetlab.errors import UserError
from resnetlab.models.resnet import create_model


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (nn.Sequential(nn.Conv1d(1, 1, 3)), "1-D"),
        (nn.Sequential(nn.Conv3d(1, 1, 3)), "3-D"),
        (nn.Conv2d(1, 1, 1, device="meta"), "meta"),
    ],
)
def test_refused_in_a_sentence(model: nn.Module, word: str) -> None:
    with pytest.raises(UserError, match=word):
        refuse(model)
    refuse(create_model("resnet20"))


@pytest.mark.parametrize(
    ("name", "options", "size", "channels"),
    [("resnet20", {}, 32, 3), ("resnet18", {}, 224, 3), ("resnet20", {"in_channels": 1}, 32, 1)],
)
def test_size_and_channels(name: str, options: dict, size: int, channels: int) -> None:
    found = Findings()
    trace, *answer = first_run(create_model(name, **options), None, None, None, found)
    assert answer == [size, channels]
    assert trace.output is not None
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


def test_unwrapped_in_its_parts() -> None:
    inner = nn.ReLU()
    wrapper = nn.Sequential(nn.Identity())
    wrapper[0]._orig_mod = inner
    assert unwrap(wrapper)[0] is inner  # type: ignore[index]
