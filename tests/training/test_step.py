import pytest
import torch
import torch.nn.functional as F

from resnetlab.data.catalogue import load_dataset
from resnetlab.recipes.table import RECIPES, get_recipe
from resnetlab.training.plan import make_plan
from resnetlab.training.state import State
from resnetlab.training.step import make_batch, train_step

NARROW = {"widths": (4, 8, 8)}


def plan(samples, **changes):
    recipe = get_recipe("smoke", model_overrides=NARROW, execution="plain", **changes)
    data = load_dataset("cifar10-sample", "train", data_dir=samples, val_size=0)
    return make_plan(recipe, data)


def step_once(accumulate, samples, **changes):
    """The weights after one step on 12 images, with batch norm as in evaluation.

    In training mode batch norm sees the parts one by one, and they would rightly differ.
    """
    step = plan(samples, accumulate=accumulate, batch_size=12, **changes)
    state = State.create(step)
    state.model.eval()
    images, labels = step.data.batch(torch.arange(12))
    sums = train_step(step, state, state.model, images.float() / 128 - 1, labels)
    return state, sums


@pytest.mark.parametrize("accumulate", [2, 3, 12])
def test_a_batch_in_parts_is_the_same_batch(accumulate, samples):
    whole, whole_sums = step_once(1, samples, label_smoothing=0.1)
    parts, sums = step_once(accumulate, samples, label_smoothing=0.1)
    torch.testing.assert_close(sums, whole_sums)
    assert sums[2] == 12
    assert whole.model.conv1.weight.grad is None
    start = State.create(plan(samples)).model
    for one, two, before in zip(
        whole.model.parameters(), parts.model.parameters(), start.parameters(), strict=True
    ):
        torch.testing.assert_close(two - before, one - before, rtol=1e-3, atol=1e-7)
    assert not torch.equal(whole.model.conv1.weight, start.conv1.weight)


def test_clip_norm_bounds_the_gradient(samples):
    overrides = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0}
    free, _ = step_once(1, samples, **overrides)
    clipped, _ = step_once(1, samples, clip_norm=0.01, **overrides)
    start = State.create(plan(samples)).model

    def moved(state):
        pairs = zip(state.model.parameters(), start.parameters(), strict=True)
        return torch.cat([(one - two).flatten() for one, two in pairs]) / RECIPES["smoke"].lr

    assert moved(free).norm() > 0.1
    assert moved(clipped).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert F.cosine_similarity(moved(free), moved(clipped), dim=0) > 0.999


def test_images_are_small_in_the_early_steps(samples):
    data = load_dataset("cifar10-sample", "train", data_dir=samples, val_size=0)
    batch_size = len(data) // 4  # four steps an epoch
    changes = {"epochs": 3, "batch_size": batch_size, "early_share": 0.5, "warmup_epochs": 0}
    early = plan(samples, early_size=20, **changes)
    assert (early.steps_per_epoch, early.total_steps, early.early_steps) == (4, 12, 6)
    sizes = [
        make_batch(early, torch.arange(8), epoch=epoch, step=step)[0].shape[2:]
        for epoch in range(3)
        for step in range(4)
    ]
    assert sizes == [(20, 20)] * 6 + [(32, 32)] * 6
    assert plan(samples, early_size=None, **changes).early_steps == 0
