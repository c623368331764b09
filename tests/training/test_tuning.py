from dataclasses import replace

import pytest
import torch
from torch import nn

from resnetlab.evaluation.linear import PENALTIES
from resnetlab.models.resnet import create_model
from resnetlab.recipes.record import Recipe
from resnetlab.training.job import resume
from resnetlab.training.optimizer import create_optimizer, parameter_groups
from resnetlab.training.tuning import begin_epoch, class_weights, is_out_of_patience
from resnetlab.weights.checkpoint import load_checkpoint

START = {
    "pretrained": "resnet20-cifar10",
    "model_overrides": {},
    "lr": 0.01,
    "warmup_epochs": 0,
}
TUNED = {
    "head": "fitted",
    "head_views": 2,
    "head_lr": 0.05,
    "layer_decay": 0.8,
    "unfreeze_share": 0.5,
    "norm": "frozen",
    "class_weights": "balanced",
    "ema_decay": 0.8,
}


def trained_layers(model):
    """Top-level layers with gradients; those in training mode."""
    with_gradient = [
        name
        for name, layer in model.named_children()
        if any(p.requires_grad for p in layer.parameters())
    ]
    norms = [
        name
        for name, layer in model.named_children()
        if any(m.training for m in layer.modules() if isinstance(m, nn.BatchNorm2d))
    ]
    return with_gradient, norms


@pytest.mark.parametrize(
    ("changes", "epoch", "trained", "adapted"),
    [
        ({}, 0, 5, 4),
        ({"norm": "frozen"}, 0, 5, 0),
        ({"freeze": "stages=1"}, 3, 3, 2),
        ({"freeze": "stages=3"}, 3, 1, 0),
        ({"unfreeze_share": 0.5, "epochs": 4}, 1, 3, 2),
        ({"unfreeze_share": 0.5, "epochs": 4}, 2, 5, 4),
        ({"unfreeze_share": 0.5, "epochs": 4, "freeze": "stages=2"}, 2, 2, 1),
    ],
)
def test_what_is_frozen_follows_from_recipe_and_epoch(changes, epoch, trained, adapted):
    recipe = Recipe(**changes)
    model = create_model("resnet20")  # conv1 bn1 layer1 layer2 layer3 fc
    for each in (0, epoch, 3, epoch):  # whatever came before
        begin_epoch(recipe, model, each)
    found, norms = trained_layers(model)
    names = ["conv1", "bn1", "layer1", "layer2", "layer3", "fc"]
    assert found == names[-trained:] if trained < 5 else names
    assert norms == (names[1:-1][-adapted:] if adapted else [])


def test_the_filters_of_a_whitening_stem_are_never_trained():
    model = create_model("fast_resnet8")
    for epoch in (0, 3):
        begin_epoch(Recipe(unfreeze_share=0.5, epochs=4), model, epoch)
        assert not model.conv1.weight.requires_grad
    assert model.layer1[0].conv1.weight.requires_grad


def rates(model, recipe):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: g["lr"] for g in parameter_groups(model, recipe) for p in g["params"]}


def test_rates_fall_from_the_classifier_to_the_stem():
    model = create_model("resnet20")
    found = rates(model, Recipe(lr=0.1, norm_lr=0.2, head_lr=1.0, layer_decay=0.5))
    assert found["fc.weight"] == found["fc.bias"] == 1.0
    assert found["layer3.2.conv1.weight"] == 0.05  # the last block is one below the classifier
    assert found["layer3.2.bn1.weight"] == 0.1
    assert found["layer1.0.conv2.weight"] == pytest.approx(0.1 * 0.5**9)
    assert found["conv1.weight"] == pytest.approx(0.1 * 0.5**10)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert set(rates(model, Recipe(lr=0.1)).values()) == {0.1}
    assert len(parameter_groups(model, Recipe())) == 2


def test_muon_has_the_same_ratios_and_every_parameter_once():
    model = create_model("preresnet110", depths=(1, 1, 1))
    recipe = Recipe(lr=0.1, muon_lr=0.04, optimizer="muon", layer_decay=0.5)
    groups = create_optimizer(model, recipe).param_groups
    found = [p for group in groups for p in group["params"]]
    assert len(found) == len({*map(id, found)}) == len(list(model.parameters()))
    muon = sorted(group["lr"] for group in groups if group.get("muon"))
    assert muon == pytest.approx([0.04 * 0.5**depth for depth in (4, 3, 2, 1)])
    assert all(p.dim() == 4 for g in groups if g.get("muon") for p in g["params"])


def test_rare_classes_weigh_more():
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights(Recipe(class_weights="balanced"), labels, 4)
    assert weights is not None
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 0, 10 / 3])
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weights(Recipe(), labels, 4) is None


def test_patience_counts_epochs_since_the_best():
    lines = [
        {"epoch": epoch, "val_top1": top1, "val_loss": 1.0}
        for epoch, top1 in enumerate((50, 60, 59, 58))
    ]
    assert not is_out_of_patience(Recipe(patience=3), lines)
    assert is_out_of_patience(Recipe(patience=2), lines)
    assert not is_out_of_patience(Recipe(), lines)
    assert not is_out_of_patience(Recipe(patience=2, epochs=8, unfreeze_share=0.25), lines)
    assert is_out_of_patience(Recipe(patience=1, epochs=8, unfreeze_share=0.25), lines)
    small = Recipe(patience=1, epochs=10, early_size=16, early_share=0.25)  # for 2.5 epochs
    assert not is_out_of_patience(small, lines)
    assert is_out_of_patience(replace(small, early_share=0.2), lines)
    assert is_out_of_patience(replace(small, early_size=None), lines)
    assert not is_out_of_patience(Recipe(patience=1), [{"epoch": 9, "val_top1": None}])
    assert not is_out_of_patience(Recipe(patience=1), [])


def test_frozen_layers_keep_every_bit_and_the_others_do_not(tiny):
    training = tiny.train(**START, freeze="stages=2", weight_decay=0.1)
    before = load_checkpoint("resnet20-cifar10").weights
    after = load_checkpoint(training.run).weights
    for name, value in before.items():
        frozen = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        assert torch.equal(value, after[name]) == frozen, name


def test_frozen_norms_keep_their_statistics_and_train_their_weights(tiny):
    after = load_checkpoint(tiny.train(**START, norm="frozen").run).weights
    before = load_checkpoint("resnet20-cifar10").weights
    assert torch.equal(before["layer2.0.bn1.running_mean"], after["layer2.0.bn1.running_mean"])
    assert not torch.equal(before["layer2.0.bn1.weight"], after["layer2.0.bn1.weight"])


# The first step, with the earlier stages frozen, and one after they are not any more.
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_fine_tuning_is_resumed_bit_for_bit(tiny, tmp_path, step):
    recipe = START | TUNED
    whole = tiny.train("whole", **recipe)
    assert [line["epoch"] for line in whole.history] == [0, 1, 2]
    fitted = len(PENALTIES)  # an optimizer's step each
    with tiny.signal_after(2, fitted + step), pytest.raises(KeyboardInterrupt):
        tiny.train("broken", **recipe)
    resume(tmp_path / "broken")
    assert tiny.contents(tmp_path / "broken") == tiny.contents(whole.run)


def test_training_ends_when_patience_does_and_the_run_is_finished(tiny, tmp_path):
    training = tiny.train(**START | {"lr": 1.0}, head="fitted", patience=1, epochs=9)
    assert training.history[-1]["epoch"] < 9
    best = load_checkpoint(training.run).metrics
    assert best["epoch"] == training.history[-1]["epoch"] - 1
    with pytest.raises(ValueError, match="is finished"):
        resume(tmp_path / "run")


@pytest.mark.parametrize("execution", ["fp32,channels_last,fused", "bf16,channels_last,winograd"])
def test_the_fast_executions_respect_what_is_frozen(tiny, execution):
    changes = START | {"freeze": "stages=1", "norm": "frozen", "epochs": 1}
    plain = tiny.train("plain", **changes)
    fast = tiny.train("fast", **changes | {"execution": execution})
    loss = [training.history[0]["train_loss"] for training in (plain, fast)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-3 if "fp32" in execution else 0.1)


def test_other_classes_get_a_classifier_of_their_own(tiny):
    first = tiny.train("first")
    again = tiny.train("again", pretrained=str(first.run), epochs=0.4, warmup_epochs=0, lr=1e-6)
    weights = [load_checkpoint(run.run).weights["fc.weight"] for run in (first, again)]
    assert torch.allclose(*weights, atol=1e-4)
