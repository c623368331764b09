"""The proof: what differs only in numbers is found by numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnetlab.comparison.proof import Proof
from resnetlab.comparison.report import Findings
from resnetlab.comparison.structure import parse
from resnetlab.comparison.trace import trace_network
from resnetlab.models.resnet import create_model


def prove(model: nn.Module, sizes: tuple[int, ...] = (32, 24)) -> tuple[float | None, list[str]]:
    reference = create_model("resnet20", shortcut="B")
    output = trace_network(reference, torch.randn(2, 3, 32, 32)).output
    assert output is not None
    found = Findings()
    structure = parse(output, block_convs=2)
    gap = Proof(model, reference, structure, 10, found).run(sizes, 3)
    return gap, [difference.kind for difference in found.differences()]


class Around(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net, self.change = create_model("resnet20", shortcut="B"), change

    def forward(self, x):
        return self.change(self.net, x)


class Quiet(nn.BatchNorm2d):
    def forward(self, x):
        mean, var = self.running_mean.clone(), self.running_var.clone()
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training)


def half_the_gradient(net, x):
    y = net(x)
    if y.requires_grad:
        y.register_hook(lambda grad: grad / 2)
    return y


def forgetful() -> nn.Module:
    model = create_model("resnet20", shortcut="B")
    model.layer2[1].bn1 = Quiet(32)
    return model


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (create_model("resnet20", shortcut="B"), []),
        (Around(lambda net, x: net(x)), []),
        (Around(lambda net, x: net(x) * (1 + 1e-4)), ["function"]),
        (Around(lambda net, x: net(x) * (2 if net.training else 1)), ["function"]),
        (Around(lambda net, x: net(x) * (x.shape[-1] / 32)), ["fixed-size"]),
        (Around(half_the_gradient), ["gradient"]),
        (forgetful(), ["running-statistics"]),
    ],
    ids=["same", "wrapped", "a little more", "in training", "by size", "gradient", "statistics"],
)
def test_numbers(model: nn.Module, kinds: list[str]) -> None:
    gap, found = prove(model)
    assert gap is not None
    assert found == kinds


def test_place_of_another_gradient_and_of_statistics() -> None:
    reference = create_model("resnet20", shortcut="B")
    output = trace_network(reference, torch.randn(2, 3, 32, 32)).output
    assert output is not None
    found = Findings()
    Proof(forgetful(), reference, parse(output, block_convs=2), 10, found).run((32,), 3)
    assert found.differences()[0].places == ("layer2.1.bn1",)


def test_nothing_is_compared_where_the_weights_do_not_pair() -> None:
    model = create_model("resnet20", shortcut="B")
    model.avgpool, model.fc = nn.Identity(), nn.Linear(64 * 64, 10)
    assert prove(model, (32,))[0] is None


class Product(nn.Module):
    """A classifier written by hand."""

    def __init__(self, multiply):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(10, 64) / 8), nn.Parameter(torch.zeros(10))
        self.multiply = multiply

    def forward(self, x):
        return self.multiply(x, self.w, self.b)


class Inline(Product):
    """The same without a module of its own."""

    def __init__(self, multiply):
        super().__init__(multiply)
        self.net = create_model("resnet20", shortcut="B")
        self.net.fc = nn.Identity()

    def forward(self, x):
        return super().forward(self.net(x))


PRODUCTS = {
    "@": lambda x, w, b: x @ w.t() + b,
    "matmul": lambda x, w, b: torch.matmul(x, w.mT).add(b),
    "mm": lambda x, w, b: b + torch.mm(x, w.T),
    "addmm": lambda x, w, b: torch.addmm(b, x, w.t()),
    "einsum": lambda x, w, b: torch.einsum("bi,oi->bo", x, w) + b,
    "from the left": lambda x, w, b: (w @ x.t() + b[:, None]).t(),
    "bmm": lambda x, w, b: torch.bmm(x[:, None], w.t().expand(len(x), -1, -1))[:, 0] + b,
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradient_of_a_classifier_as_a_product_of_matrices(name: str) -> None:
    layer = create_model("resnet20", shortcut="B")
    layer.fc = Product(PRODUCTS[name])
    for model in (layer, Inline(PRODUCTS[name])):
        gap, found = prove(model, (16,))
        assert gap is not None
        assert gap < 1e-6
        assert found == []


def test_gradient_that_does_not_reach_a_weight_by_hand() -> None:
    model = create_model("resnet20", shortcut="B")
    model.fc = Product(lambda x, w, b: x @ w.detach().t() + b)
    assert prove(model, (16,))[1] == ["gradient"]
