from dataclasses import dataclass, replace

import pytest

from resnetlab.compute import distributed
from resnetlab.models.architecture import list_models
from resnetlab.preprocessing import Preprocessing
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES, get_recipe
from resnetlab.training.plan import Plan, check_plan, make_plan

# one of each family, the deepest ones left out
MODELS = [name for name in list_models() if not name.endswith(("101", "1001", "152", "1202"))]


@dataclass(frozen=True)
class Images:
    """As much of a data set as a plan asks for."""

    name: str
    preprocessing: Preprocessing
    n: int
    classes: tuple[str, ...] = tuple("abcdefghij")

    def __len__(self) -> int:
        return self.n


def planned(recipe: Recipe) -> Plan:
    grey = recipe.dataset.startswith("fashion")
    channels, size = (1, 28) if grey else (3, 32)
    numbers = (0.5,) * channels
    preprocessing = Preprocessing(mean=numbers, std=numbers, size=recipe.image_size or size)
    n = 200 if recipe.dataset.endswith("sample") else 45_000
    plan = make_plan(recipe, Images(recipe.dataset, preprocessing, n))  # type: ignore[arg-type]
    with distributed.start() as world:
        check_plan(plan, world)
    return plan


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("epochs", (0.5, 1, 2, 5)),
        ("batch_size", (16, 100, 1000)),
        ("image_size", (32, 64, 224)),
        ("model", MODELS),
    ],
)
def test_any_one_option_of_a_recipe_can_be_changed(name, field, values):
    for value in values:
        plan = planned(replace(RECIPES[name], **{field: value}))
        assert plan.total_steps >= 1
        if field == "epochs" and RECIPES[name].early_size:
            assert plan.recipe.early_size == RECIPES[name].early_size


def test_early_images_are_as_large_as_the_network_needs():
    recipe = get_recipe("smoke", early_share=0.5, early_size=1)
    assert planned(replace(recipe, model="fast_resnet8")).recipe.early_size == 9
    assert planned(replace(recipe, model="resnet18")).recipe.early_size == 17
    assert planned(replace(recipe, early_size=20)).recipe.early_size == 20
    assert planned(replace(recipe, early_size=None)).recipe.early_size is None
