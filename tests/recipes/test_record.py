import dataclasses

import pytest

from resnetlab.recipes.record import Recipe


def test_fields_are_flat_and_cannot_be_changed():
    recipe = Recipe(name="mine", lr=0.3, crop_padding=2)
    assert (recipe.lr, recipe.crop_padding, recipe.epochs) == (0.3, 2, 16)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.lr = 1.0  # type: ignore[misc]
    assert dataclasses.replace(recipe, lr=0.2) == Recipe(name="mine", lr=0.2, crop_padding=2)


def test_a_recipe_of_an_earlier_run_keeps_its_meaning():
    recipe = Recipe.from_dict({"name": "cifar10-quick", "epochs": 13, "warmup_epochs": 2})
    assert recipe.warmup_length == 2
    assert Recipe.from_dict({"epochs": 182.3, "warmup_epochs": 0.0}).warmup_length == 0
    with pytest.raises(ValueError, match="Recipe has no field 'warmup_epoch'; did you mean"):
        Recipe.from_dict({"warmup_epoch": 2})
