"""One forward pass as a graph: outputs of every form, lost gradients, crashes."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from resnetlab.comparison.report import Findings
from resnetlab.comparison.trace import (
    explain_crash,
    first_run,
    leaves,
    refuse,
    trace_network,
    unwrap,
)
from resnetlab.errors import UserError
from resnetlab.models.resnet import create_model

IMAGES = torch.randn(2, 3, 16, 16)


@dataclass
class Answer:
    logits: Tensor
    rest: list[Tensor]


Pair = namedtuple("Pair", "a b")
ONE, TWO = torch.zeros(2, 3), torch.zeros(2, 5)


@pytest.mark.parametrize(
    ("result", "keys"),
    [
        (ONE, [""]),
        ((ONE, TWO), ["0", "1"]),
        ({"x": ONE, "y": [TWO]}, ["x", "y.0"]),
        (Answer(ONE, [TWO]), ["logits", "rest.0"]),
        (Pair(ONE, TWO), ["a", "b"]),
        (None, []),
        ("text", []),
    ],
)
def test_leaves(result, keys) -> None:
    assert [key for key, _ in leaves(result)] == keys


class Heads(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.conv, self.fc, self.form = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), form

    def forward(self, x):
        maps = self.conv(x)
        features = maps.mean((2, 3))
        return self.form(maps, features, self.fc(features))


@pytest.mark.parametrize(
    ("form", "classes", "columns"),
    [
        (lambda m, f, y: (f, y), None, 5),
        (lambda m, f, y: {"features": f, "logits": y}, None, 5),
        (lambda m, f, y: [m, f, y], None, 5),
        (lambda m, f, y: (y, f), 8, 8),
        (lambda m, f, y: (m, f), None, 8),
    ],
)
def test_logits_among_several_outputs(form, classes, columns) -> None:
    trace = trace_network(Heads(form), IMAGES, classes=classes)
    assert trace.logits is not None
    assert trace.logits.shape == (2, columns)
    assert len(trace.heads) >= 2


def test_nothing_returned_is_a_crash_of_its_own() -> None:
    trace = trace_network(Heads(lambda m, f, y: None), IMAGES)
    assert trace.crash is not None
    assert trace.crash.message == "forward returns nothing"


def test_buffers_and_mode_are_put_back() -> None:
    model = create_model("resnet20").eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    trace_network(model, IMAGES, training=True)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())


@pytest.mark.parametrize(
    ("form", "cut"),
    [
        (lambda m, f, y: y, False),
        (lambda m, f, y: y + f.detach().sum(), True),
        (lambda m, f, y: y + f.data.sum(), True),
        (lambda m, f, y: y.detach(), True),
    ],
)
def test_lost_gradients_are_seen_where_they_are_lost(form, cut: bool) -> None:
    trace = trace_network(Heads(form), IMAGES, training=True)
    assert bool(trace.cuts) == cut
    assert all(cut.location[0] == __file__ for cut in trace.cuts if cut.location)


def test_detached_statistics_that_nobody_reads_are_no_cut() -> None:
    def form(maps, features, logits):
        form.seen = features.detach() * 2  # type: ignore[attr-defined]
        return logits

    assert trace_network(Heads(form), IMAGES, training=True).cuts == []


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
