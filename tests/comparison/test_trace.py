"""One forward pass as a graph: outputs of every form, lost gradients, crashes."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from resnetlab.comparison.trace import leaves, trace_network
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
    assert all(location[0] == __file__ for _, _, location in trace.cuts if location)


def test_detached_statistics_that_nobody_reads_are_no_cut() -> None:
    def form(maps, features, logits):
        form.seen = features.detach() * 2  # type: ignore[attr-defined]
        return logits

    assert trace_network(Heads(form), IMAGES, training=True).cuts == []
