from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch

from resnetlab.compute import distributed
from resnetlab.compute.distributed import World
from resnetlab.errors import UserError
from resnetlab.models.architecture import get_architecture, list_models
from resnetlab.models.resnet import ResNet
from resnetlab.preprocessing import Preprocessing
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES, get_recipe
from resnetlab.training.plan import (
    Plan,
    check_plan,
    describe_plan,
    load_data,
    load_pretrained,
    make_plan,
    smallest_map,
)

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

    @property
    def labels(self) -> torch.Tensor:
        return torch.arange(self.n) % len(self.classes)


def planned(recipe: Recipe, world: World | None = None) -> Plan:
    grey = recipe.dataset.startswith("fashion")
    channels, size = (1, 28) if grey else (3, 32)
    numbers = (0.5,) * channels
    preprocessing = Preprocessing(mean=numbers, std=numbers, size=recipe.image_size or size)
    n = 200 if recipe.dataset.endswith("sample") else 45_000
    plan = make_plan(recipe, Images(recipe.dataset, preprocessing, n))  # type: ignore[arg-type]
    with distributed.start() as alone:
        check_plan(plan, world or alone)
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


@pytest.mark.parametrize(
    ("name", "size", "pixels"),
    [("resnet18", 32, 1), ("resnet18", 33, 4), ("resnet20", 32, 64), ("fast_resnet8", 32, 9)],
)
def test_the_smallest_map_is_that_of_the_last_batch_norm(name, size, pixels):
    architecture = get_architecture(name)
    assert smallest_map(architecture, size) == pixels
    refused = pytest.raises(ValueError, match="more than 1 value") if pixels == 1 else nullcontext()
    with refused:  # batch norm itself is of the same opinion
        ResNet(architecture).train()(torch.zeros(1, 3, size, size))


RESNET18 = {"model": "resnet18", "model_overrides": {}}


@pytest.mark.parametrize(
    ("changes", "processes"),
    [
        ({"batch_size": 1}, 1),
        ({"batch_size": 8, "accumulate": 8}, 1),
        ({"batch_size": 2}, 2),
        ({"batch_size": 8, "accumulate": 4}, 2),
        # a share of 3 in 2 parts: 2 and 1
        ({"batch_size": 6, "accumulate": 2}, 2),
        # only early in the training
        ({"batch_size": 1, "image_size": 64, "early_size": 32, "early_share": 0.5}, 1),
    ],
)
def test_batch_norm_of_one_value_is_said(changes, processes, monkeypatch):
    monkeypatch.setattr(World, "gather_objects", lambda self, value: [value] * self.size)
    recipe = get_recipe("smoke", **RESNET18 | changes)
    world = World(size=processes)
    with pytest.raises(UserError, match=r"^batch norm needs more than one value.*`accumulate`"):
        planned(recipe, world)
    planned(replace(recipe, batch_size=3 * recipe.batch_size), world)
    planned(replace(recipe, image_size=96, early_size=None), world)
    planned(replace(recipe, model="resnet20"), world)


def described(plan: Plan, processes: int = 1) -> list[str]:
    return list(describe_plan(plan, None, processes))


def test_an_imagenet_stem_on_small_images_is_said():
    smoke = get_recipe("smoke")
    assert described(planned(smoke)) == []
    assert described(planned(replace(smoke, model="resnet50"))) == [
        "resnet50 on images of 32 pixels: its ImageNet stem leaves maps of 1 x 1 at the end; "
        "--model-overrides stem cifar keeps the resolution"
    ]
    assert "maps of 2 x 2" in described(planned(replace(smoke, model="resnet50", image_size=64)))[0]
    assert not described(planned(replace(smoke, model="resnet50", image_size=96)))
    cifar = replace(smoke, model="resnet50", model_overrides={"stem": "cifar"})
    assert not described(planned(cifar))
    textbook = RECIPES["cifar10-resnet50-textbook"]
    assert not described(planned(textbook))
    assert len(described(planned(replace(textbook, model="resnet18")))) == 1


def test_several_processes_are_said_to_have_other_numbers():
    (line,) = described(planned(get_recipe("smoke")), processes=2)
    assert line.startswith("2 processes share each batch: batch norm sees the images of one")


def start(tmp_path, samples, tensors, **changes):
    torch.save(tensors, tmp_path / "x.pth")
    recipe = get_recipe("smoke", data_dir=str(samples), pretrained=str(tmp_path / "x.pth"))
    recipe = replace(recipe, **RESNET18 | changes)
    weights = load_pretrained(recipe)
    plan = make_plan(recipe, *load_data(recipe))
    return [line.strip() for line in describe_plan(plan, weights, 1)]


def test_initial_weights_are_described(tmp_path, samples):
    torchvision = pytest.importorskip("torchvision")
    tensors = torchvision.models.resnet18().state_dict()
    first, head, normalised, *rest = start(tmp_path, samples, tensors)
    assert first.startswith("starting from PyTorch checkpoint, resnet18")
    assert first.endswith("1000 classes, 3 input channels: 120 of 122 tensors taken")
    assert head == "the classifier is a fresh one of 10 classes, in place of its 1,000"
    assert normalised.startswith("images are normalised as those of cifar10-sample, which is not")
    assert rest[0].startswith("normalisation not recorded: assumed that of ImageNet networks")

    body = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
    lines = start(tmp_path, samples, body, load="matching", model_overrides={"stem": "cifar"})
    assert lines[0].endswith(": 119 of 122 tensors taken")
    assert lines[1] == "the classifier is a fresh one of 10 classes"
    assert any("of another shape (conv1.weight)" in line for line in lines)

    grey = {"dataset": "fashion-mnist-sample", "image_size": 32}
    assert (
        "the first convolution takes images of 1 channel(s), not 3: with the mean of its weights "
        "for each"
    ) in start(tmp_path, samples, tensors, **grey)


def test_fewer_training_images_leave_the_validation_images(samples):
    recipe = get_recipe("smoke", data_dir=str(samples))
    _, val = load_data(recipe)
    some, same = load_data(replace(recipe, train_size=50))
    assert len(some) == 50
    assert val is not None
    assert same is not None
    assert torch.equal(same.batch(torch.arange(100))[0], val.batch(torch.arange(100))[0])
    assert make_plan(replace(recipe, train_size=50, batch_size=25), some).steps_per_epoch == 2
