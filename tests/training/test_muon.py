"""Muon against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import optim

from resnetlab.models.resnet import create_model
from resnetlab.recipes.record import Recipe
from resnetlab.training.muon import orthogonalize, step_by_muon
from resnetlab.training.optimizer import create_optimizer


@given(rows=st.integers(2, 24), columns=st.integers(2, 24), seed=st.integers(0, 100))
def test_singular_values_are_brought_near_1(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(2, rows, columns, generator=generator)
    strong = torch.linalg.svdvals(matrices) > 0.3 * torch.linalg.svdvals(matrices)[:, :1]
    values = torch.linalg.svdvals(torch.stack(orthogonalize(list(matrices))))
    # The iteration swings around 1 by design; small singular values are still on their way.
    assert (values[strong] > 0.5).all()
    assert (values < 1.5).all()


def test_the_directions_are_those_of_the_singular_value_decomposition():
    matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    wide, tall = orthogonalize([matrix, matrix.mT])
    # In the basis of the singular vectors only the diagonal is left.
    inside = u.mT @ wide @ v.mT
    torch.testing.assert_close(inside, inside.diagonal().diag(), atol=1e-4, rtol=0)
    torch.testing.assert_close(wide.mT, tall, atol=1e-4, rtol=0)


def test_a_step_is_a_rescaled_weight_minus_lr_times_the_orthogonal_direction():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    group = {"params": [weight], "muon": True, "muon_momentum": 0.5, "momentum": 0.0}
    optimizer = optim.SGD([group], lr=0.1)
    step_by_muon(optimizer)
    velocity = torch.zeros_like(weight)
    for _ in range(3):
        gradient, before = torch.randn_like(weight), weight.detach().clone()
        velocity = 0.5 * velocity + gradient
        direction = orthogonalize([(gradient + 0.5 * velocity).flatten(1)])[0]
        wanted = before * 2 / before.norm() - 0.1 * direction.view_as(before)
        weight.grad = gradient.clone()
        optimizer.step()
        torch.testing.assert_close(weight.detach(), wanted)


def test_only_convolutions_are_stepped_by_muon_and_they_do_not_decay():
    model = create_model("resnet20", shortcut="B")
    optimizer = create_optimizer(model, Recipe(optimizer="muon", weight_decay=1e-3))
    muon = [group for group in optimizer.param_groups if group.get("muon")]
    assert len(muon) == 1
    assert {p.dim() for p in muon[0]["params"]} == {4}
    assert (muon[0]["weight_decay"], muon[0]["momentum"], muon[0]["lr"]) == (0, 0, 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    others = [names[id(p)] for g in optimizer.param_groups if g not in muon for p in g["params"]]
    assert len(others) + len(muon[0]["params"]) == len(names)
    assert not any("conv" in name for name in others)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "muon"])
def test_each_optimizer_lowers_the_loss(optimizer):
    torch.manual_seed(0)
    model = create_model("resnet20", depths=(1, 1, 1))
    images, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    steps = create_optimizer(model, Recipe(optimizer=optimizer, lr=0.05, muon_lr=0.05))
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        steps.step()
        steps.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_only_the_direction_of_a_gradient_counts():
    matrix = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    usual, small, zero = orthogonalize([matrix, matrix * 1e-6, matrix * 0])
    torch.testing.assert_close(small, usual)
    assert torch.equal(zero, torch.zeros_like(matrix))


@pytest.mark.parametrize(("rank", "tolerance"), [(32, 0.03), (4, 0.1), (1, 0.2)])
def test_bf16_products_differ_by_their_rounding_alone(rank, tolerance):
    """Of a low rank too: what rounding adds to singular values of 0 must not grow."""
    generator = torch.Generator().manual_seed(0)
    factors = (torch.randn(3, *shape, generator=generator) for shape in ((32, rank), (rank, 288)))
    matrices = torch.bmm(*factors)
    exact, rounded = (torch.stack(orthogonalize(list(m))) for m in (matrices, matrices.bfloat16()))
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() < tolerance * exact.norm()
    assert not rounded.equal(exact)


def test_large_matrices_are_multiplied_in_the_dtype_asked_for():
    """And small ones are not, whatever it is."""
    for rows, rounded in ((128, True), (64, False)):
        steps = {}
        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            weight = torch.nn.Parameter(torch.randn(rows, 16, 3, 3))
            group = {"params": [weight], "muon": True, "muon_momentum": 0.5, "momentum": 0.0}
            optimizer = optim.SGD([group], lr=0.1)
            step_by_muon(optimizer, dtype)
            weight.grad = torch.randn_like(weight)
            optimizer.step()
            steps[dtype] = weight.detach()
        assert steps[torch.float32].equal(steps[torch.bfloat16]) is not rounded


def test_convolutions_of_all_shapes_are_stepped_in_fp16_as_well():
    """A network's first convolution is a tall matrix; gradients are small, or 0."""
    torch.manual_seed(0)
    shapes = [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3)]
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    group = {"params": weights, "muon": True, "muon_momentum": 0.5, "momentum": 0.0}
    optimizer = optim.SGD([group], lr=0.1)
    step_by_muon(optimizer, torch.float16)
    for weight, scale in zip(weights, (1.0, 0.0, 1e-7, 0.0), strict=True):
        weight.grad = scale * torch.randn_like(weight)
    before = [w.detach() / w.detach().norm() * len(w) ** 0.5 for w in weights]
    optimizer.step()
    moved = [(b - w.detach()).norm().item() for b, w in zip(before, weights, strict=True)]
    # Singular values near 1 make the norm of a step about lr * sqrt(shorter side).
    assert moved[0] == pytest.approx(0.1 * 27**0.5, rel=0.3)
    assert moved[2] == pytest.approx(0.1 * 128**0.5, rel=0.3)
    assert moved[1] < 1e-5
    assert moved[3] < 1e-5
