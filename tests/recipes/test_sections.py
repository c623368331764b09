import dataclasses
import inspect
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab.recipes import sections
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.sections import (
    Augmentation,
    Data,
    General,
    Network,
    Optimizer,
    Schedule,
    Tuning,
)

SECTIONS = (General, Network, Data, Schedule, Optimizer, Augmentation, Tuning)
WRONG = {
    "norm_lr": [0, -1.0, math.nan],
    "tta": ["mirror", None],
    "lr": [0, -0.1, math.nan, math.inf, "0.1", None, True, [0.1]],
    "epochs": [0, -1, math.nan, math.inf, "3"],
    "batch_size": [0, -128, 64.0, "64", True, np.float32(64)],
    "accumulate": [0],
    "momentum": [-0.1, 1, math.nan],
    "weight_decay": [-1e-4, math.inf],
    "clip_norm": [-1],
    "ema_decay": [-0.5, 1],
    "label_smoothing": [-0.1, 1],
    "val_size": [-1, 100.5],
    "test_size": [-0.1, 10.5],
    "warmup_share": [-0.1, 1, math.nan],
    "warmup_epochs": [-1, 16, 17],
    "crop_padding": [-1],
    "cutout": [-1],
    "resized_crop": [-0.1, 1, math.nan],
    "color_jitter": [-0.1, 1],
    "auto_augment": ["auto", None],
    "random_erasing": [-0.1, 1],
    "cache": [3],
    "mixup": [-1],
    "cutmix": [-1, math.nan],
    "seed": [-1, 1.5, "0"],
    "image_size": [0, -3, 32.0, "32"],
    "early_size": [0, -5],
    "milestones": [(0.5, 1.5), (0.0,), (math.nan,), 0.5, "0.5", ("0.5",), None],
    "mean": [0.5, (math.inf,), ("a",)],
    "std": [(0.0,), (-1.0,)],
    "optimizer": ["adam", ["sgd"]],
    "schedule": ["cyclic"],
    "freeze": ["all", "stages=0", "stages=", 2, None],
    "head": ["zero"],
    "head_views": [0, 1.5],
    "head_lr": [0, -1.0],
    "layer_decay": [0, 1.1, -0.5, math.nan],
    "unfreeze_share": [-0.1, 1],
    "norm": ["fixed"],
    "class_weights": [True, "equal"],
    "balanced": [True, "loss"],
    "patience": [-1],
    "name": [3, None],
    "data_dir": [3],
    "model": ["resnet21", 18],
    "model_overrides": [{"stem": "cifa"}, {"depth": 3}, {"in_channels": 0}, "stem cifar", None],
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_an_impossible_value_is_a_sentence_that_names_the_field(name, value):
    words = f"^(each of )?`{name}` "
    if value == "resnet21":
        words = "no model 'resnet21'"
    elif isinstance(value, dict):  # a field of the architecture
        words = "stem|depth|in_channels"
    with pytest.raises(ValueError, match=words) as error:
        Recipe(**{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lr": -1}, "`lr` must be greater than 0, not -1."),
        ({"momentum": 1.5}, "`momentum` must be less than 1, not 1.5."),
        ({"val_size": -1}, "`val_size` must be at least 0, not -1."),
        ({"lr": math.inf}, "`lr` must be finite, not inf."),
        ({"epochs": "3"}, "`epochs` must be a number, not '3'."),
        ({"batch_size": 64.0}, "`batch_size` must be a whole number, not 64.0."),
        ({"layer_decay": 2}, "`layer_decay` must be at most 1, not 2."),
        (
            {"freeze": "all"},
            "`freeze` must be none, backbone or stages=N, such as stages=2, not 'all'.",
        ),
        ({"name": 3}, "`name` must be text, not 3."),
        ({"mean": 0.5}, "`mean` must be a list of numbers, not 0.5."),
        ({"milestones": (0.5, 2)}, "each of `milestones` must be less than 1, not 2."),
        ({"model_overrides": 3}, "`model_overrides` must be a dictionary, not 3."),
        ({"flip": "no"}, "`flip` must be one of none, random, alternating, not 'no'."),
    ],
)
def test_the_sentences(changes, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Recipe(**changes)
    assert str(error.value) == sentence


def test_kin_of_the_types_are_taken_and_kept_as_plain_values():
    recipe = Recipe(
        epochs=np.int64(3),
        lr=np.float32(0.5),
        batch_size=np.int32(64),
        weight_decay=torch.tensor(0.25),
        milestones=[0.5],  # type: ignore[arg-type]
        mean=np.array([0.5, 0.25, 0.5]),  # type: ignore[arg-type]
        std=torch.tensor([0.5, 0.25, 0.5]),  # type: ignore[arg-type]
        data_dir=Path("data"),  # type: ignore[arg-type]
    )
    assert recipe.to_dict() | {"epochs": 3} == recipe.to_dict()
    assert type(recipe.epochs) is type(recipe.batch_size) is int
    assert type(recipe.lr) is float
    assert (recipe.milestones, recipe.data_dir) == ((0.5,), "data")
    assert recipe.mean == recipe.std == (0.5, 0.25, 0.5)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_fields_that_do_not_fit_together():
    with pytest.raises(ValueError, match="`batch_size` 128 cannot be computed in 3 equal parts"):
        Recipe(accumulate=3)
    with pytest.raises(ValueError, match="nesterov needs a `momentum`; take sgd"):
        Recipe(momentum=0.0)
    with pytest.raises(ValueError, match="muon needs a `momentum`"):
        Recipe(momentum=0.0, optimizer="muon")
    assert Recipe(momentum=0.0, optimizer="sgd").momentum == 0
    for wrong in ({"mean": (0.5,)}, {"std": (0.5,)}, {"mean": (0.5,), "std": (0.5, 0.5)}):
        with pytest.raises(ValueError, match="`mean` and `std` go together"):
            Recipe(**wrong)
    with pytest.raises(ValueError, match="`std` must be greater than 0"):
        Recipe(mean=(0.5, 0.5), std=(0.2, 0.0))


def test_rare_classes_count_once():
    with pytest.raises(ValueError, match="would count rare classes twice; take one of them"):
        Recipe(class_weights="balanced", balanced="sampling")
    assert [Tuning(freeze=freeze).frozen_stages for freeze in ("none", "stages=2")] == [0, 2]


def test_each_section_checks_its_own():
    with pytest.raises(ValueError, match="equal parts"):
        Optimizer(accumulate=3)
    with pytest.raises(ValueError, match="no model"):
        Network(model="resnet21")
    with pytest.raises(ValueError, match="`val_size` must"):
        Data(val_size=-1)


def test_warm_up_in_shares_and_in_epochs():
    assert Schedule(epochs=8, warmup_share=0.25).warmup_length == 2
    assert Schedule(epochs=8, warmup_share=0.25, warmup_epochs=3).warmup_length == 3
    assert Schedule(epochs=8, warmup_share=0.25, warmup_epochs=0).warmup_length == 0
    assert Schedule(epochs=8).warmup_length == 0
    with pytest.raises(ValueError, match="`warmup_epochs` 8 must be less than `epochs` 8; change"):
        Schedule(epochs=8, warmup_epochs=8)


def test_a_recipe_is_its_sections_each_field_once_and_explained():
    names = [field.name for section in SECTIONS for field in dataclasses.fields(section)]
    assert [field.name for field in dataclasses.fields(Recipe)] == names
    assert len(names) == len(set(names))
    source = inspect.getsource(sections)
    for name in names:  # the help of `train RECIPE` is made of them
        assert re.search(rf'^    {name}: [^\n]* = [^\n]*\n    """\w', source, re.M), name
