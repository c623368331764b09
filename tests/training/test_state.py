from dataclasses import replace

import pytest
import torch

from resnetlab.benchmark.samples import random_dataset
from resnetlab.models.architecture import get_architecture
from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.training.plan import make_plan
from resnetlab.training.state import State

SMALL = get_architecture("resnet20", depths=(1, 1, 1), widths=(4, 8, 8))


def plan(record=SMALL, **changes):
    overrides = {name: getattr(record, name) for name in ("depths", "widths")}
    recipe = get_recipe("smoke", model_overrides=overrides, execution="plain", **changes)
    return make_plan(recipe, random_dataset(record, 32, 192))


def create(**changes):
    return State.create(plan(**changes))


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    one, before = create(seed=5), torch.get_rng_state()
    torch.manual_seed(2)
    two = create(seed=5)
    assert torch.equal(weights(one.model), weights(two.model))
    assert not torch.equal(weights(one.model), weights(create(seed=6).model))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_zero_init_makes_residual_branches_start_at_zero():
    for kind, zeros in (("none", 0), ("residual", 3)):
        model = create(zero_init=kind).model
        scales = [v for n, v in model.named_parameters() if n.endswith("bn2.weight")]
        assert len(scales) == 3
        assert sum(not scale.any() for scale in scales) == zeros


def test_the_average_is_what_is_judged():
    state = create(ema_decay=0.75)
    assert create().evaluated is not None
    start = weights(state.model)
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1)
    assert state.ema is not None
    state.ema.update_parameters(state.model)  # the first one copies
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1)
    state.ema.update_parameters(state.model)
    torch.testing.assert_close(weights(state.evaluated), start + 1.25)
    assert state.evaluated is not state.model


def test_without_average_the_network_itself_is_judged():
    state = create()
    assert state.ema is None
    assert state.evaluated is state.model


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_what_is_saved_comes_back(tmp_path, decay):
    state = create(ema_decay=decay)
    state.model(torch.randn(2, 3, 32, 32)).sum().backward()
    state.optimizer.step()
    state.schedule.step()
    state.step, state.seconds, state.history = 7, 1.5, [{"epoch": 1, "val_loss": None}]
    state.sums += torch.tensor([1.5, 2, 3])
    Run(tmp_path).states.write(state.to_dict())
    other = create(ema_decay=decay, seed=9)
    other.load(Run(tmp_path).last)
    assert torch.equal(weights(other.model), weights(state.model))
    assert torch.equal(weights(other.evaluated), weights(state.evaluated))
    assert (other.step, other.seconds, other.history) == (7, 1.5, state.history)
    assert other.sums.tolist() == [1.5, 2, 3]
    assert other.optimizer.param_groups[0]["lr"] == state.optimizer.param_groups[0]["lr"]
    moments = [list(s.optimizer.state_dict()["state"].values()) for s in (state, other)]
    for one, two in zip(*moments, strict=True):
        assert torch.equal(one["momentum_buffer"], two["momentum_buffer"])


def test_a_whitening_stem_is_set_from_the_images():
    record = get_architecture("fast_resnet8", widths=(8, 8, 8))
    one = plan(record, model="fast_resnet8")
    images = one.data.batch(torch.arange(100))[0]
    other = replace(one.data, images=images // 2, labels=one.data.labels[:100])
    two = make_plan(one.recipe, other)
    filters = [State.create(each).model.conv1.weight for each in (one, two)]
    assert not torch.equal(*filters)
    # it is no parameter that is trained, by Muon or by weight decay
    optimizer = State.create(plan(record, model="fast_resnet8", optimizer="muon")).optimizer
    assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])
