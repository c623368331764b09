import json
from dataclasses import dataclass
from typing import Literal

import pytest

from resnetlab.models.architecture import ARCHITECTURES, Architecture
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES
from resnetlab.records import Record, check_fields, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Pet(Record):
    kind: Literal["cat", "dog"]
    ages: tuple[int, ...] = ()

    def __post_init__(self):
        self.check_choices()
        object.__setattr__(self, "ages", tuple(self.ages))


def test_a_wrong_choice_names_the_right_ones():
    with pytest.raises(ValueError, match="kind must be one of cat, dog, not 'cow'"):
        Pet(kind="cow")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "record", [Pet(kind="cat", ages=(1, 2)), *ARCHITECTURES.values(), *RECIPES.values()]
)
def test_json_round_trip(record):
    assert type(record).from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_json_round_trip_keeps_overrides_and_normalisation():
    recipe = Recipe(model_overrides={"stem": "imagenet", "stem_width": 8}, mean=(0.5,), std=(0.2,))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(("record", "name"), [(Recipe, "lr"), (Architecture, "depths")])
def test_an_unknown_field_names_the_nearest(record, name):
    check_fields(record, [name])
    with pytest.raises(ValueError, match=f"{record.__name__} has no field '{name}z'.*'{name}'"):
        check_fields(record, [name, f"{name}z"])
    with pytest.raises(ValueError, match=f"{record.__name__} has no field"):
        record.from_dict({f"{name}z": 1})


def test_did_you_mean():
    assert did_you_mean("smok", ["smoke", "fire"]) == "; did you mean 'smoke'?"
    assert did_you_mean("xyz", iter(["smoke", "fire"])) == "; there are: smoke, fire."
