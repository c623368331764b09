"""Files as strangers save them: public bug reports, each for a kind."""

import argparse
import json
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel

from resnetlab.errors import UserError
from resnetlab.models.resnet import create_model
from resnetlab.recipes.table import get_recipe
from resnetlab.training.plan import load_data, load_pretrained, make_plan
from resnetlab.training.state import State
from resnetlab.weights.checkpoint import load_checkpoint


def small(**changes):
    torch.manual_seed(0)
    return create_model("resnet20", **{"shortcut": "B"} | changes).eval()


def save(content, path):
    torch.save(content, path)
    return path


def same(checkpoint, model, channels=3, size=32):
    x = torch.randn(2, channels, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.build()(x), model.eval()(x), rtol=1e-5, atol=1e-5)
    return True


# What tensors cannot tell is said with the option that decides ------------------------------------


def test_a_pool_after_a_small_stem_is_asked_about(tmp_path):
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)  # its max pool stays
    path = save(theirs.state_dict(), tmp_path / "x.pt")
    notes = " ".join(load_checkpoint(path).notes)
    assert "`model_overrides` stem cifar-pool" in notes
    assert "dilation" in notes
    decided = load_checkpoint(path, overrides={"stem": "cifar-pool"})
    assert same(decided, theirs)
    assert "cifar-pool" not in " ".join(decided.notes)


def test_the_other_stride_of_a_bottleneck_can_be_stated(tmp_path):
    theirs = create_model("resnet50_v1", depths=(1, 1, 1, 1), num_classes=4)
    path = save(theirs.state_dict(), tmp_path / "x.pt")
    assert "`model_overrides` stride_on 1x1" in " ".join(load_checkpoint(path).notes)
    assert same(load_checkpoint(path, overrides={"stride_on": "1x1"}), theirs, size=64)


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path, value):
    state = small().state_dict()
    state["layer2.0.bn1.running_var"][3] = value
    words = r"layer2\.0\.bn1\.running_var holds 1 values of 32 that are not finite"
    with pytest.raises(UserError, match=words):
        load_checkpoint(save(state, tmp_path / "x.pth"))


def test_a_negative_variance_is_refused(tmp_path):
    state = small().state_dict()
    state["bn1.running_var"][0] = -1
    with pytest.raises(UserError, match=r"bn1\.running_var holds negative variances"):
        load_checkpoint(save(state, tmp_path / "x.pth"))


@pytest.mark.parametrize("change", [{"depths": [10**9] * 3}, {"num_classes": 10**12}])
def test_nothing_is_built_after_a_record_that_is_larger_than_its_tensors(tmp_path, change):
    record = small().architecture.to_dict() | change
    content = {"model": small().state_dict(), "architecture": record}
    with pytest.raises(UserError, match="larger network than its tensors"):
        load_checkpoint(save(content, tmp_path / "x.pt"))


# Tensors beside the network -----------------------------------------------------------------------


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


def test_averages_losses_and_counters_are_left_out_with_a_note(tmp_path):
    model = small()
    lightning = {f"model.{k}": v for k, v in model.state_dict().items()}
    for content in (
        AveragedModel(model).state_dict(),
        {"state_dict": lightning | {"criterion.weight": torch.ones(10)}},
    ):
        checkpoint = load_checkpoint(save(content, tmp_path / "x.pth"))
        assert same(checkpoint, model)
        assert any("left out 1 tensors beside the network" in note for note in checkpoint.notes)


@pytest.mark.parametrize("scale", [1, 255])
def test_a_normalisation_before_the_network_is_taken_over(tmp_path, scale):
    model, norm = small(), Norm()
    norm.mean *= scale
    norm.std *= scale
    path = save(nn.Sequential(norm, model).state_dict(), tmp_path / "x.pth")
    checkpoint = load_checkpoint(path)
    assert same(checkpoint, model)
    assert checkpoint.preprocessing.mean == pytest.approx((0.4, 0.5, 0.6))
    assert checkpoint.preprocessing.std == pytest.approx((0.2, 0.25, 0.3))
    assert "preprocessing" not in checkpoint.guessed


def test_a_classifier_beside_its_backbone_is_the_networks(tmp_path):
    model = small()
    state = {f"backbone.{k}": v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    state |= {f"classifier.{k}": v for k, v in model.fc.state_dict().items()}
    assert same(load_checkpoint(save(state, tmp_path / "x.pth")), model)


# A head that is replaced anyway -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "projector", "sequential"])
def test_a_training_needs_no_classifier_of_its_start(tmp_path, samples, kind):
    model = small()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    if kind == "projector":
        state |= {"fc.0.weight": torch.ones(64, 64), "fc.2.weight": torch.ones(128, 64)}
    elif kind == "sequential":
        head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 7))
        state |= {f"fc.{k}": v for k, v in head.state_dict().items()}
    path = save(state, tmp_path / "x.pth")
    with pytest.raises(UserError):
        load_checkpoint(path)
    overrides = {"shortcut": "B"}
    options = {"pretrained": str(path), "data_dir": str(samples), "model_overrides": overrides}
    recipe = get_recipe("smoke", **options)
    start = load_pretrained(recipe)
    assert any("classifier" in note for note in start.notes)
    plan = make_plan(recipe, *load_data(recipe))
    one, two = State.create(plan, start).model, State.create(plan, load_pretrained(recipe)).model
    assert torch.equal(one.conv1.weight, model.conv1.weight)
    assert torch.equal(one.fc.weight, two.fc.weight)  # it follows from the seed
    assert one.fc.weight.std() > 0


def test_load_matching_takes_what_fits(tmp_path, samples):
    theirs = torchvision.models.resnet18()
    path = save(theirs.state_dict(), tmp_path / "x.pth")
    options = {"model": "resnet18", "model_overrides": {"stem": "cifar"}, "pretrained": str(path)}
    recipe = get_recipe("smoke", data_dir=str(samples), **options)
    with pytest.raises(UserError, match=r"differs in stem cifar.*`load` matching"):
        load_pretrained(recipe)
    recipe = get_recipe(recipe, load="matching")
    start = load_pretrained(recipe)
    assert start.fresh == {"conv1.weight"}
    assert any("conv1.weight" in note for note in start.notes)
    model = State.create(make_plan(recipe, *load_data(recipe)), start).model
    assert torch.equal(model.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)
    assert model.conv1.weight.shape == (64, 3, 3, 3)


# Containers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        {"model": small().state_dict(), "args": argparse.Namespace(lr=1)},
        {"net": small().state_dict(), "acc": np.float64(91.2)},
        {"args": argparse.Namespace(lr=1), "model": small()},
        small(),
    ],
    ids=["reference scripts", "numpy score", "module in a dict", "module"],
)
def test_the_printed_conversion_works_as_it_stands(tmp_path, content):
    path = save(content, tmp_path / "x y.pth")
    with pytest.raises(UserError, match="is refused") as error:
        load_checkpoint(path)
    command = str(error.value).partition(" or with: ")[2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert same(load_checkpoint(tmp_path / "weights.pth"), small())


NAMES = ("weight", "model_dict", "net_state_dict", "student", "encoder", "best_state", "state")


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_of_any_name_is_found(tmp_path, name):
    content = {"epoch": 3, name: small().state_dict(), "optimizer": {"state": {}, "lr": 0.1}}
    checkpoint = load_checkpoint(save(content, tmp_path / "x.pth"))
    assert same(checkpoint, small())
    assert any(f"taken from its entry '{name}'" in note for note in checkpoint.notes)
    assert same(load_checkpoint(save((content[name], 7), tmp_path / "x.pth")), small())


def test_what_was_found_instead_is_named(tmp_path):
    with pytest.raises(UserError, match=r"its entries: epoch \(int\), note \(str\)"):
        load_checkpoint(save({"epoch": 3, "note": "none"}, tmp_path / "x.pth"))
    two = {"teacher": small().state_dict(), "student": OrderedDict(small().state_dict())}
    with pytest.raises(UserError, match="several sets of tensors: teacher, student"):
        load_checkpoint(save(two, tmp_path / "x.pth"))


# Hugging Face folders -----------------------------------------------------------------------------

PROCESSOR = {
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
}


@pytest.fixture
def folder(tmp_path):
    safetensors.torch.save_file(small().state_dict(), tmp_path / "model.safetensors")
    labels = {str(i): f"name {i}" for i in range(10)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return tmp_path


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_what_lies_beside_the_weights_is_read(folder, name):
    checkpoint = load_checkpoint(folder / name)
    assert checkpoint.classes[2] == "name 2"
    assert not checkpoint.guessed
    preprocessing = checkpoint.preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (preprocessing.size, preprocessing.resize) == (224, 256)
    assert preprocessing.interpolation == "bicubic"


def test_a_damaged_config_is_named(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_checkpoint(folder)


def test_what_a_source_does_not_record_can_be_given(tmp_path):
    path = save(small().state_dict(), tmp_path / "x.pth")
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "classes": list("abcdefghij")}
    checkpoint = load_checkpoint(path, **given)
    assert not checkpoint.guessed
    assert checkpoint.classes == tuple("abcdefghij")
    assert checkpoint.preprocessing.std == (0.4, 0.5, 0.6)
    with pytest.raises(UserError, match="`classes` has 2 names and the network 10 outputs"):
        load_checkpoint(path, classes=["a", "b"])


def test_a_torch_file_with_another_ending(tmp_path):
    assert same(load_checkpoint(save(small().state_dict(), tmp_path / "x.safetensors")), small())


@pytest.mark.parametrize(
    "card", ["[1, 2]", "{", '{"architecture": 5}', '{"architecture": {"block": []}}']
)
def test_a_card_that_is_none_is_one_sentence(tmp_path, card):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(small().state_dict(), path, {"resnetlab": card})
    with pytest.raises(UserError, match=r"x\.safetensors") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
