import math

import pytest

from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import ABOUT, RECIPES, get_recipe

WRONG = {
    "norm_lr": [0, -1.0, math.nan],
    "tta": ["mirror"],
    "lr": [0, -0.1, math.nan, math.inf],
    "epochs": [0, -1, math.nan, math.inf],
    "batch_size": [0, -128],
    "accumulate": [0],
    "momentum": [-0.1, 1, math.nan],
    "weight_decay": [-1e-4, math.inf],
    "clip_norm": [-1],
    "ema_decay": [-0.5, 1],
    "label_smoothing": [-0.1, 1],
    "val_size": [-1],
    "warmup_epochs": [-1, 16, 17],
    "crop_padding": [-1],
    "cutout": [-1],
    "mixup": [-1],
    "cutmix": [-1, math.nan],
    "seed": [-1],
    "image_size": [0, -3],
    "early_size": [0, -5],
    "milestones": [(0.5, 1.5), (0.0,), (math.nan,)],
    "optimizer": ["adam"],
    "schedule": ["cyclic"],
    "model": ["resnet21"],
    "model_overrides": [{"stem": "cifa"}, {"depth": 3}, {"in_channels": 0}],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_an_impossible_value_is_a_sentence_that_names_the_field(name, value):
    words = {"model": "no model 'resnet21'", "model_overrides": "stem|depth|in_channels"}
    with pytest.raises(ValueError, match=words.get(name, f"^{name} ")) as error:
        Recipe(**{name: value})
    assert "\n" not in str(error.value)


def test_fields_that_do_not_fit_together():
    with pytest.raises(ValueError, match="batch_size 128 cannot be computed in 3 equal parts"):
        Recipe(accumulate=3)
    with pytest.raises(ValueError, match="nesterov needs a momentum; take optimizer sgd"):
        Recipe(momentum=0.0)
    with pytest.raises(ValueError, match="muon needs a momentum"):
        Recipe(momentum=0.0, optimizer="muon")
    assert Recipe(momentum=0.0, optimizer="sgd").momentum == 0
    for wrong in ({"mean": (0.5,)}, {"std": (0.5,)}, {"mean": (0.5,), "std": (0.5, 0.5)}):
        with pytest.raises(ValueError, match="mean and std go together"):
            Recipe(**wrong)
    with pytest.raises(ValueError, match="std must be greater than 0"):
        Recipe(mean=(0.5, 0.5), std=(0.2, 0.0))


def test_get_recipe():
    assert get_recipe("smoke") is not get_recipe("smoke", seed=1)
    assert get_recipe("smoke", lr=0.3).lr == 0.3
    assert get_recipe(Recipe(name="mine"), seed=4) == Recipe(name="mine", seed=4)
    with pytest.raises(ValueError, match="there is no recipe 'smok'; did you mean 'smoke'"):
        get_recipe("smok")
    with pytest.raises(ValueError, match="no field 'learning_rate'"):
        get_recipe("smoke", learning_rate=0.1)


def test_the_table():
    assert {"cifar10-quick", "cifar10-paper", "fashion-mnist-quick", "smoke"} <= RECIPES.keys()
    assert ABOUT.keys() == RECIPES.keys()
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    paper = RECIPES["cifar10-paper"]  # section 4.2
    assert (paper.batch_size, paper.lr, paper.momentum, paper.weight_decay) == (128, 0.1, 0.9, 1e-4)
    assert (paper.optimizer, paper.weight_decay_on, paper.schedule) == ("sgd", "all", "step")
    assert (paper.crop_padding, paper.flip, paper.val_size) == (4, "random", 5000)
    assert round(paper.epochs * (45_000 // 128)) == 64_000
