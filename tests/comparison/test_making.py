"""Who has made a candidate's modules, and who has written into its parameters."""

from __future__ import annotations

import linecache

import torch
from torch import nn

from resnetlab.comparison.making import Making


def made() -> tuple[nn.Sequential, Making]:
    with Making() as making:
        net = nn.Sequential(*(nn.BatchNorm2d(2) for _ in range(7)))
        net[1].weight.data.fill_(0)
        net[2].apply(lambda module: nn.init.zeros_(module.weight))
        with torch.no_grad():
            net[3].weight[:1] = 0  # by way of a view
        net[4].weight.data.zero_()
        net[4].weight = nn.Parameter(torch.zeros(2))
        net[5].weight.data.fill_(1)
        net[5].weight.data.zero_()
        nn.init.constant_(net[6].weight, 0)
    return net, making


def test_last_line_that_wrote_into_a_parameter() -> None:
    net, making = made()
    lines = making.of_parameters(net)
    codes = {name: linecache.getline(*line).strip() for name, line in lines.items()}
    assert codes == {
        "1.weight": "net[1].weight.data.fill_(0)",
        "2.weight": "net[2].apply(lambda module: nn.init.zeros_(module.weight))",
        "3.weight": "net[3].weight[:1] = 0  # by way of a view",
        "5.weight": "net[5].weight.data.zero_()",
        "6.weight": "nn.init.constant_(net[6].weight, 0)",
    }


def test_line_that_freezes_a_parameter() -> None:
    with Making() as making:
        net = nn.Sequential(*(nn.BatchNorm2d(2) for _ in range(3)))
        net[0].requires_grad_(False)
        for parameter in net[1].parameters():
            parameter.requires_grad = False
    lines = making.of_frozen(net)
    codes = {name: linecache.getline(*line).strip() for name, line in lines.items()}
    assert codes == {
        "0.weight": "net[0].requires_grad_(False)",
        "0.bias": "net[0].requires_grad_(False)",
        "1.weight": "parameter.requires_grad = False",
        "1.bias": "parameter.requires_grad = False",
    }


def test_line_that_makes_a_module() -> None:
    net, making = made()
    known = making.of_modules(net)
    assert {path for path in known if path} == set("0123456")
    assert "nn.BatchNorm2d(2) for" in linecache.getline(*known["0"].lines[0])


def test_torch_is_left_as_it_was() -> None:
    before = nn.Module.__init__
    made()
    assert nn.Module.__init__ is before
