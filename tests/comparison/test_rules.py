"""Blocks side by side."""

from __future__ import annotations

import torch

from resnetlab.comparison import compare_models
from resnetlab.comparison.report import Findings
from resnetlab.comparison.rules import common_ratio, compare_structures, pair_units
from resnetlab.comparison.structure import parse
from resnetlab.comparison.trace import trace_network
from resnetlab.models.resnet import create_model


def structure(**options):
    model = create_model("resnet20", shortcut="B", **options)
    output = trace_network(model, torch.randn(2, 3, 32, 32)).output
    assert output is not None
    return parse(output, block_convs=2)


def test_first_block_of_a_stage_stays_with_the_first() -> None:
    candidate, reference = structure(depths=(4, 4, 4)), structure()
    pairs = pair_units(candidate, reference)
    names = [(x and candidate.name(x), y and y.place) for x, y in pairs]
    for stage in ("layer1", "layer2", "layer3"):
        assert (f"{stage}.0", f"{stage}.0") in names
    assert sum(y is None for _, y in pairs) == 3


def test_a_common_ratio_of_widths_is_one_finding() -> None:
    candidate, reference = structure(widths=(32, 64, 128)), structure()
    assert common_ratio(pair_units(candidate, reference)) == 2
    found = Findings()
    compare_structures(candidate, reference, found)
    assert [d.kind for d in found.differences()] == ["width"]


def test_one_stage_of_another_width_is_named() -> None:
    found = Findings()
    compare_structures(structure(widths=(16, 32, 48)), structure(), found)
    (difference,) = found.differences()
    assert difference.places == ("layer3.0", "layer3.1", "layer3.2")
    assert "48 channels" in difference.what


def test_one_block_is_singular() -> None:
    found = Findings()
    compare_structures(structure(depths=(3, 1, 3)), structure(), found)
    assert "layer2 has 1 block, the reference has 3." in found.differences()[0].what


def test_depths_in_another_order_move_no_strides_and_widths() -> None:
    found = Findings()
    compare_structures(structure(depths=(3, 6, 4)), structure(depths=(3, 4, 6)), found)
    (difference,) = found.differences()
    assert difference.what == "the stages have 3, 6, 4 blocks, the reference's 3, 4, 6."


def test_groups_swapped_for_their_width_are_a_fault() -> None:
    options = {"depths": (1, 1), "widths": (64, 128), "num_classes": 10}
    nets = [
        create_model("resnext50_32x4d", groups=groups, width_per_group=width, **options)
        for groups, width in ((4, 32), (32, 4))
    ]
    (difference,) = compare_models(*nets, image_size=64).differences
    assert (difference.kind, difference.harm) == ("groups", "wrong")
    assert "groups=32; in a name such as 32x4d" in difference.remedy
