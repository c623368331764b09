import json
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from resnetlab.models.architecture import ARCHITECTURES, Architecture
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES
from resnetlab.records import Limit, Record, check_fields, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Pet(Record):
    kind: Literal["cat", "dog"]
    ages: tuple[Annotated[int, Limit(at_least=0)], ...] = ()
    weight: Annotated[float | None, Limit(above=0, below=100)] = None

    def __post_init__(self):
        self.check()


class Quoted(Pet):
    quote = "`"


def test_a_wrong_choice_names_the_right_ones():
    with pytest.raises(ValueError, match="kind must be one of cat, dog, not 'cow'"):
        Pet(kind="cow")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weight": 0}, "weight must be greater than 0, not 0."),
        ({"weight": 100.0}, "weight must be less than 100, not 100.0."),
        ({"weight": 10**400}, "weight must be less than 100, not 1000000"),
        ({"weight": "5"}, "weight must be a number, not '5'."),
        ({"weight": float("nan")}, "weight must be finite, not nan."),
        ({"ages": [3, -1]}, "each of ages must be at least 0, not -1."),
        ({"ages": [3, 1.5]}, "each of ages must be a whole number, not 1.5."),
        ({"ages": 3}, "ages must be a list of numbers, not 3."),
    ],
)
def test_types_and_limits_are_checked(changes, sentence):
    for pet in (Pet, Quoted):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            pet(kind="cat", **changes)
        assert str(error.value).replace("`", "").startswith(sentence)
        assert ("`" in str(error.value)) == (pet is Quoted)


def test_a_check_leaves_plain_values():
    pet = Pet(kind="cat", ages=np.array([1, 2]), weight=np.int64(4))  # type: ignore[arg-type]
    assert (pet.ages, pet.weight) == ((1, 2), 4)
    assert type(pet.weight) is type(pet.ages[0]) is int


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
