"""One forward pass as a graph: places, weights, outputs of every form, lost gradients."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from resnetlab.comparison.candidate import is_candidates_own
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
    assert all(cut.location[0] == __file__ for cut in trace.cuts if cut.location)


def test_detached_statistics_that_nobody_reads_are_no_cut() -> None:
    def form(maps, features, logits):
        form.seen = features.detach() * 2  # type: ignore[attr-defined]
        return logits

    assert trace_network(Heads(form), IMAGES, training=True).cuts == []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [nn.Conv2d(3, 4, 3)]
        self.register_buffer("held", torch.randn(4, 4, 3, 3))

    def forward(self, x):
        x = self.hidden[0](x)
        return F.conv2d(x, self.held).mean((2, 3))


def test_hidden_modules_have_a_path_and_are_unregistered() -> None:
    trace = trace_network(Net(), IMAGES)
    assert trace.unregistered == {"hidden[0].weight": 108, "hidden[0].bias": 4}
    conv, held = (node for node in trace.nodes if node.kind == "conv")
    assert conv.place == "hidden[0]"
    assert held.settings["held"] == "held"
    assert held.location is not None
    assert held.location[0] == __file__


def test_lines_of_a_library_are_theirs_and_not_of_who_called_us() -> None:
    trace = trace_network(torchvision.models.resnet18(), torch.randn(2, 3, 64, 64))
    files = {node.location[0] for node in trace.nodes if node.location}
    assert files
    assert all("torchvision" in file for file in files)
    assert not is_candidates_own(torch.__file__)
    assert is_candidates_own(torchvision.__file__)


class Cast(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight * 2).flatten(1)


def test_a_weight_made_on_the_way_is_computed_and_a_turned_one_is_not() -> None:
    trace = trace_network(nn.Sequential(Cast(3, 4, 3, bias=False), nn.Linear(784, 5)), IMAGES)
    computed = {node.kind: node.settings.get("computed") for node in trace.nodes[1:]}
    assert computed == {"conv": True, "linear": False}


def test_padding_mode_is_read_of_the_module() -> None:
    for mode in ("reflect", "replicate", "circular"):
        conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode)
        trace = trace_network(nn.Sequential(conv, nn.Flatten()), IMAGES)
        (node,) = (node for node in trace.live() if node.kind == "conv")
        assert node.settings["padding mode"] == mode
        assert node.settings["padding"] == (1, 1)
        assert [parent.kind for parent in node.inputs] == ["input"]
