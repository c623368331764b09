import pytest
import torch
import torch.nn.functional as F

from resnetlab.compute.execution import PLAIN
from resnetlab.data.dataset import load_dataset
from resnetlab.models.architecture import get_architecture
from resnetlab.recipes.table import RECIPES, get_recipe
from resnetlab.training.state import State
from resnetlab.training.step import early_steps, make_batch, train_step

NARROW = get_architecture("resnet20", widths=(4, 8, 8))


def step_once(accumulate, samples, **changes):
    """The weights after one step on 12 images, with batch norm as in evaluation.

    In training mode batch norm sees the parts one by one, and they would rightly differ.
    """
    recipe = get_recipe(RECIPES["smoke"], accumulate=accumulate, batch_size=12, **changes)
    state = State.create(recipe, NARROW, PLAIN, 1)
    state.model.eval()
    data = load_dataset("cifar10-sample", "train", data_dir=samples, val_size=0)
    images, labels = data.batch(torch.arange(12))
    sums = train_step(state, state.model, images.float() / 128 - 1, labels, recipe, PLAIN)
    return state, sums


@pytest.mark.parametrize("accumulate", [2, 3, 12])
def test_a_batch_in_parts_is_the_same_batch(accumulate, samples):
    whole, whole_sums = step_once(1, samples, label_smoothing=0.1)
    parts, sums = step_once(accumulate, samples, label_smoothing=0.1)
    torch.testing.assert_close(sums, whole_sums)
    assert sums[2] == 12
    assert whole.model.conv1.weight.grad is None
    start = State.create(RECIPES["smoke"], NARROW, PLAIN, 1).model
    for one, two, before in zip(
        whole.model.parameters(), parts.model.parameters(), start.parameters(), strict=True
    ):
        torch.testing.assert_close(two - before, one - before, rtol=1e-3, atol=1e-7)
    assert not torch.equal(whole.model.conv1.weight, start.conv1.weight)


def test_clip_norm_bounds_the_gradient(samples):
    overrides = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0}
    free, _ = step_once(1, samples, **overrides)
    clipped, _ = step_once(1, samples, clip_norm=0.01, **overrides)
    start = State.create(RECIPES["smoke"], NARROW, PLAIN, 1).model

    def moved(state):
        pairs = zip(state.model.parameters(), start.parameters(), strict=True)
        return torch.cat([(one - two).flatten() for one, two in pairs]) / RECIPES["smoke"].lr

    assert moved(free).norm() > 0.1
    assert moved(clipped).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert F.cosine_similarity(moved(free), moved(clipped), dim=0) > 0.999


def test_images_are_small_in_the_early_steps(samples):
    data = load_dataset("cifar10-sample", "train", data_dir=samples, val_size=0)
    batch_size = len(data) // 4  # four steps an epoch
    recipe = get_recipe(
        "smoke", epochs=3, batch_size=batch_size, early_size=20, early_share=0.5, warmup_epochs=0
    )
    assert early_steps(recipe, 4) == 6
    sizes = [
        make_batch(data, torch.arange(8), recipe, PLAIN, epoch=epoch, step=step)[0].shape[2:]
        for epoch in range(3)
        for step in range(4)
    ]
    assert sizes == [(20, 20)] * 6 + [(32, 32)] * 6
    assert early_steps(get_recipe(recipe, early_size=None), 4) == 0
