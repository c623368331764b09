import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from resnetlab.models.resnet import create_model
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES
from resnetlab.training.optimizer import (
    create_optimizer,
    create_schedule,
    learning_rates,
    lr_factor,
    parameter_groups,
)

epochs = st.floats(1, 300)
shares = st.floats(0, 1)
warmups = st.just(0.0) | st.floats(0.01, 0.9)


@given(epochs, warmups, shares)
def test_one_cycle_is_a_line_up_and_a_line_down(total, warmup_share, share):
    warmup = warmup_share * total
    recipe = Recipe(epochs=total, warmup_epochs=warmup, schedule="one-cycle")
    up, down = share * warmup, warmup + share * (total - warmup)
    if up < warmup:
        assert lr_factor(recipe, up) == pytest.approx(0.1 + 0.9 * share)
    assert lr_factor(recipe, down) == pytest.approx(1 - share, abs=1e-9)


@given(epochs, warmups, shares)
def test_cosine_is_half_a_cosine_after_the_warm_up(total, warmup_share, share):
    warmup = warmup_share * total
    recipe = Recipe(epochs=total, warmup_epochs=warmup, schedule="cosine")
    expected = 0.5 * (1 + math.cos(math.pi * share))
    moment = warmup + share * (total - warmup)
    assert lr_factor(recipe, moment) == pytest.approx(expected, abs=1e-9)


@given(epochs, st.sampled_from(["step", "cosine", "one-cycle"]), shares)
def test_a_constant_warm_up_stays_at_a_tenth(total, schedule, share):
    recipe = Recipe(epochs=total, warmup_epochs=0.5 * total, warmup="constant", schedule=schedule)
    assert lr_factor(recipe, 0.499 * share * total) == 0.1
    assert lr_factor(recipe, 0.5 * total) != 0.1 or schedule == "step"


@given(epochs, st.lists(st.floats(0.01, 0.99), max_size=4), shares)
def test_step_divides_by_ten_at_each_milestone(total, milestones, share):
    recipe = Recipe(epochs=total, milestones=tuple(milestones), schedule="step")
    passed = sum(share * total >= milestone * total for milestone in milestones)
    assert lr_factor(recipe, share * total) == pytest.approx(10.0**-passed)


@given(epochs, warmups, st.sampled_from(["step", "cosine", "one-cycle"]), st.floats(0, 1.5))
def test_the_rate_never_leaves_its_bounds(total, warmup_share, schedule, share):
    recipe = Recipe(epochs=total, warmup_epochs=warmup_share * total, schedule=schedule)
    assert 0 <= lr_factor(recipe, share * total) <= 1 + 1e-9


def test_the_papers_rate_falls_after_32k_and_48k_steps():
    recipe, steps = RECIPES["cifar10-paper"], 45_000 // 128
    rates = [lr_factor(recipe, step / steps) for step in (31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_the_schedule_sets_the_rate_of_each_step():
    recipe = Recipe(epochs=2, warmup_epochs=0.5, lr=0.4)
    optimizer = create_optimizer(nn.Linear(2, 2), recipe)
    schedule = create_schedule(optimizer, recipe, steps_per_epoch=4)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # two steps from a tenth to the peak, six from there to zero
    assert rates == pytest.approx([0.04, 0.22, *(0.4 * left / 6 for left in range(6, 0, -1))])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


@pytest.mark.parametrize("optimizer", ["nesterov", "muon"])
def test_what_is_recorded_is_what_the_step_takes(optimizer):
    recipe = Recipe(epochs=2, warmup_epochs=0.5, lr=0.4, muon_lr=0.03, optimizer=optimizer)
    groups = create_optimizer(create_model("resnet20"), recipe)
    schedule = create_schedule(groups, recipe, steps_per_epoch=4)
    for step in range(8):
        taken = {"lr": groups.param_groups[0]["lr"]}
        if optimizer == "muon":
            taken["muon_lr"] = groups.param_groups[-1]["lr"]
        assert learning_rates(recipe, step / 4) == taken
        groups.step()
        schedule.step()


def test_norms_and_biases_do_not_decay():
    model = create_model("resnet20")
    decayed, others = parameter_groups(model, Recipe(weight_decay=0.01))
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    weights = {names[parameter] for parameter in decayed["params"]}
    assert weights == {n for n in names.values() if "conv" in n or n == "fc.weight"}
    assert len(weights) + len(others["params"]) == len(names)


def test_all_decays_all():
    model = create_model("resnet20")
    groups = parameter_groups(model, Recipe(weight_decay=0.01, weight_decay_on="all"))
    assert [group["weight_decay"] for group in groups] == [0.01, 0.01]
    assert {p for group in groups for p in group["params"]} == set(model.parameters())


def test_norms_may_have_a_rate_of_their_own():
    model = create_model("resnet20")
    for norm_lr, wanted in ((None, 0.2), (3.0, 3.0)):
        recipe = Recipe(optimizer="muon", lr=0.2, muon_lr=0.1, norm_lr=norm_lr)
        groups = create_optimizer(model, recipe).param_groups
        assert [group["lr"] for group in groups] == [0.2, wanted, 0.1]
        assert all(p.dim() == 1 for p in groups[1]["params"])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_does_what_the_formula_says(nesterov):
    recipe = Recipe(
        optimizer="nesterov" if nesterov else "sgd", lr=0.1, momentum=0.8, weight_decay=0.05
    )
    layer = nn.Linear(3, 2, bias=False).double()
    optimizer = create_optimizer(layer, recipe)
    weight, velocity = layer.weight.detach().clone(), torch.zeros(2, 3).double()
    for x in torch.eye(3).double():
        layer(x).square().sum().backward()
        assert layer.weight.grad is not None
        gradient = layer.weight.grad + 0.05 * weight
        velocity = 0.8 * velocity + gradient
        weight = weight - 0.1 * (gradient + 0.8 * velocity if nesterov else velocity)
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(layer.weight.detach(), weight)
