"""The record: what it accepts, what it refuses, and that it survives JSON."""

import itertools
import json
import math
import operator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetlab.models.architecture import ARCHITECTURES, Architecture, get_architecture, list_models
from resnetlab.models.resnet import ResNet


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Small valid records of every kind."""
    block = draw(st.sampled_from(["basic", "bottleneck"]))
    stages = draw(st.integers(1, 4))
    widths = sorted(draw(st.lists(st.sampled_from([4, 8, 16]), min_size=stages, max_size=stages)))
    grouped = {}
    if block == "bottleneck":
        grouped["groups"] = draw(st.sampled_from([1, 2]))
        grouped["width_per_group"] = draw(st.sampled_from([16, 64]))
        grouped["stride_on"] = draw(st.sampled_from(["1x1", "3x3"]))
    return Architecture(
        block=block,
        depths=tuple(draw(st.integers(1, 2)) for _ in widths),
        widths=tuple(widths),
        stem=draw(st.sampled_from(["imagenet", "deep", "cifar"])),
        stem_width=draw(st.sampled_from([None, 4])),
        shortcut=draw(st.sampled_from(["A", "B", "C", "D", "none"])),
        activation=draw(st.sampled_from(["post", "pre"])),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.integers(1, 5)),
        **grouped,
    )


@settings(max_examples=60, deadline=None)
@given(record=architectures(), extra=st.integers(0, 20))
def test_any_record_builds_runs_and_keeps_its_promises(record: Architecture, extra: int) -> None:
    size = record.minimum_size + extra
    with torch.device("meta"):
        model = ResNet(record).eval()
    images = torch.empty(2, record.in_channels, size, size, device="meta")
    assert model(images).shape == (2, record.num_classes)
    shapes = [tuple(stage.shape) for stage in model.forward_stages(images)]
    strides = itertools.accumulate((record.stem_stride, *record.strides), operator.mul)
    sizes = [math.ceil(size / stride) for stride in list(strides)[1:]]
    promised = zip(record.stage_outputs, sizes, strict=True)
    assert shapes == [(2, channels, pixels, pixels) for channels, pixels in promised]
    weighted = [
        m
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.Linear) and "downsample" not in name
    ]
    assert len(weighted) == record.num_layers


@given(record=architectures())
def test_the_record_survives_json(record: Architecture) -> None:
    assert Architecture.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize("name", list_models())
def test_every_named_record_survives_json(name: str) -> None:
    record = ARCHITECTURES[name]
    assert Architecture.from_dict(json.loads(json.dumps(record.to_dict()))) == record


WRONG = {
    "block": st.text().filter(lambda x: x not in ("basic", "bottleneck")),
    "depths": st.sampled_from([(), (0, 1, 1), (1, 1), "222", (1.5, 1, 1), None, (True, 1, 1)]),
    "widths": st.sampled_from([(), (16, -32, 64), (16, 32), 64]),
    "stem": st.sampled_from(["CIFAR", "", None, 3]),
    "stem_width": st.sampled_from([0, -1, 1.5, "16"]),
    "shortcut": st.sampled_from(["a", "E", None]),
    "stride_on": st.sampled_from(["1x1", "5x5"]),
    "activation": st.sampled_from(["mid", True]),
    "groups": st.sampled_from([0, 32, -2]),
    "width_per_group": st.sampled_from([0, 4, "64"]),
    "in_channels": st.sampled_from([0, -3, 2.0, None]),
    "num_classes": st.sampled_from([0, "ten"]),
}


@given(data=st.data(), field=st.sampled_from(sorted(WRONG)))
def test_an_impossible_record_is_refused_in_one_sentence(data: st.DataObject, field: str) -> None:
    value = data.draw(WRONG[field])
    with pytest.raises(ValueError, match=r"\.$") as error:
        replace(ARCHITECTURES["resnet20"], **{field: value})
    sentence = str(error.value)
    assert "\n" not in sentence


def test_refusals_name_the_remedy() -> None:
    with pytest.raises(ValueError, match="there is no model 'resnet19'; did you mean 'resnet18'"):
        get_architecture("resnet19")
    with pytest.raises(ValueError, match="no field 'stm'; did you mean 'stem'"):
        get_architecture("resnet18", stm="cifar")
    with pytest.raises(ValueError, match="can only pad channels"):
        Architecture(block="basic", depths=(1, 1), widths=(32, 16), shortcut="A")
    with pytest.raises(ValueError, match="width_per_group=4 leaves no channel"):
        Architecture(block="bottleneck", depths=(1,), widths=(8,), width_per_group=4)
    with pytest.raises(ValueError, match="even stem width"):
        Architecture(block="basic", depths=(1,), widths=(16,), stem="deep", stem_width=7)


def test_the_name_agrees_with_the_number_of_weighted_layers() -> None:
    for name, record in ARCHITECTURES.items():
        digits = "".join(c if c.isdigit() else " " for c in name).split()[0]
        extra = (
            2 if name.endswith("d") and record.stem == "deep" else 0
        )  # three for one in the stem
        assert record.num_layers == int(digits) + extra, name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stem": "whitening"}, "need transition 'pool'"),
        ({"block": "single"}, "need transition 'pool'"),
        ({"transition": "pool", "shortcut": "A"}, "goes with"),
        ({"transition": "pool", "activation": "pre"}, "goes with"),
        ({"transition": "pool", "block": "bottleneck"}, "goes with"),
        ({"transition": "pool", "stem": "whitening", "stem_width": 16}, "leave out stem_width"),
    ],
)
def test_what_does_not_go_together_is_said(changes, said):
    with pytest.raises(ValueError, match=said):
        get_architecture("resnet18", **changes)
