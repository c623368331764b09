import dataclasses

import pytest

from resnetlab.models.architecture import list_models
from resnetlab.recipes import table
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import ABOUT, ALIASES, NETWORKS, RECIPES, get_recipe, resolve

FORMER = "cifar10-resnet50-finetune-textbook"
# name, epochs and warm-up in epochs, as they were when warm-up was given in epochs
WARMUPS = {
    "cifar10-quick": (13, 2),
    "cifar10-paper": (64_000 / 351, 0),
    "cifar10-resnet20": (20, 2),
    "cifar10-resnet20-best": (130, 2),
    "cifar10-94": (16, 0),
    "cifar10-95": (48, 0),
    "cifar10-resnet50-textbook": (12, 2),
    "fashion-mnist-quick": (10, 0),
    "fashion-mnist-textbook": (10, 2),
    "smoke": (16, 3),
}


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
    assert ABOUT.keys() == NETWORKS.keys() == RECIPES.keys()
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    paper = RECIPES["cifar10-paper"]  # section 4.2
    assert (paper.batch_size, paper.lr, paper.momentum, paper.weight_decay) == (128, 0.1, 0.9, 1e-4)
    assert (paper.optimizer, paper.weight_decay_on, paper.schedule) == ("sgd", "all", "step")
    assert (paper.crop_padding, paper.flip, paper.val_size) == (4, "random", None)
    assert round(paper.epochs * (45_000 // 128)) == 64_000


def test_the_schedules_are_those_that_the_figures_were_measured_with():
    found = {name: (recipe.epochs, recipe.warmup_length) for name, recipe in RECIPES.items()}
    assert found == WARMUPS


@pytest.mark.parametrize("name", RECIPES)
def test_any_one_option_can_be_changed(name):
    recipe = RECIPES[name]
    changes = [("epochs", value) for value in (0.5, 1, 2, 5)]
    changes += [("batch_size", value) for value in (16, 100, 1000)]
    changes += [("image_size", value) for value in (16, 32, 64, 224)]
    changes += [("model", model) for model in list_models()]
    changes += [("seed", 7), ("lr", 1.0), ("val_size", 0), ("warmup_epochs", 0)]
    for field, value in changes:
        changed = dataclasses.replace(recipe, **{field: value})
        assert getattr(changed, field) == value
        assert changed.warmup_length <= changed.epochs / 5 or changed.epochs == 16


def test_a_former_name_says_the_present_one_once(capsys):
    resolve.cache_clear()
    for _ in range(2):
        assert get_recipe(FORMER, seed=1) == get_recipe("cifar10-resnet50-textbook", seed=1)
    said = capsys.readouterr()
    assert said.err == f"resnetlab: recipe {FORMER} is called cifar10-resnet50-textbook now.\n"
    assert said.out == ""
    assert resolve("smoke") == "smoke"
    assert not capsys.readouterr().err


def test_former_names_are_not_listed(monkeypatch):
    assert set(ALIASES.values()) <= RECIPES.keys()
    assert not ALIASES.keys() & RECIPES.keys()
    assert Recipe.from_dict(RECIPES["smoke"].to_dict() | {"name": FORMER}).name == FORMER
    monkeypatch.setitem(table.ALIASES, "smoke-test", "smoke")
    assert get_recipe("smoke-test") == RECIPES["smoke"]


def test_the_command_line_takes_former_names(resnetlab):
    resolve.cache_clear()
    answer = resnetlab("train", FORMER, "--help")
    assert (answer.code, answer.err.count("\n")) == (0, 1)
    assert answer.out == resnetlab("train", "cifar10-resnet50-textbook", "--help").out
    assert FORMER not in resnetlab("train", "--help").out
