"""The nearest network of the table."""

from __future__ import annotations

import pytest
import torch

from resnetlab.comparison.nearest import PAPERS, guess_fields, nearest, nearest_by_layers
from resnetlab.comparison.structure import parse
from resnetlab.comparison.trace import trace_network
from resnetlab.models.architecture import ARCHITECTURES
from resnetlab.models.resnet import ResNet, create_model

DEEP = ("1202", "1001", "152", "164", "101")


def fields_of(model):
    trace = trace_network(model, torch.randn(1, 3, 64, 64))
    assert trace.output is not None
    return guess_fields(parse(trace.output), None)


@pytest.mark.parametrize("name", [n for n in PAPERS if not any(d in n for d in DEEP)])
def test_every_network_is_nearest_to_itself(name: str) -> None:
    found, record = nearest(fields_of(ResNet(ARCHITECTURES[name])), "Net")
    twin = name.removesuffix("_v1").removesuffix("d")
    assert found.removesuffix("_v1").removesuffix("d") == twin
    assert record.depths == ARCHITECTURES[name].depths
    assert record.shortcut == ARCHITECTURES[name].shortcut
    assert record.stem == ARCHITECTURES[name].stem


def test_widths_count_by_their_ratio() -> None:
    half = create_model("resnet18", widths=(32, 64, 128, 256))
    assert nearest(fields_of(half), "Net")[0] == "resnet18"


def test_the_name_settles_whether_a_plain_net_means_to_be_residual() -> None:
    fields = fields_of(create_model("plain20"))
    assert nearest(fields, "plain20")[0] == "plain20"
    assert nearest(fields, "ResNet20")[0] == "resnet20"


def test_the_name_settles_what_a_network_without_blocks_is() -> None:
    planned = [{"out": 64, "kernel": (7, 7), "stride": (2, 2)}]
    assert nearest_by_layers([], planned, "ResNet34")[0] == "resnet34"
