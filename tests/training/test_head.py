import dataclasses
from types import SimpleNamespace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from resnetlab.compute.distributed import World
from resnetlab.evaluation.linear import PENALTIES
from resnetlab.recipes.record import Recipe
from resnetlab.runs import Run
from resnetlab.training.head import _path, fit
from resnetlab.training.job import resume
from resnetlab.weights.checkpoint import load_checkpoint

START = {"pretrained": "resnet20-cifar10", "model_overrides": {}, "freeze": "backbone"}


def clouds(n=300, classes=3, d=8):
    """Features and labels of overlapping classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=generator)
    return centres[labels] + 1.5 * torch.randn(n, d, generator=generator) + 5, labels


def plan_of(labels, **recipe):
    data = SimpleNamespace(classes=("a", "b", "c"), labels=labels)
    data = type("Data", (), {"__len__": lambda _: len(labels), **vars(data)})()
    return SimpleNamespace(recipe=Recipe(**recipe), data=data, class_weights=None)


def test_the_classifier_is_scikit_learns():
    inputs, labels = clouds()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    for penalty, head in _path(inputs, labels, plan_of(labels)):
        theirs = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-8, max_iter=1000)
        theirs.fit(inputs.double().numpy(), labels.numpy())
        expected = torch.from_numpy(theirs.predict_proba(inputs.double().numpy())).float()
        assert torch.allclose(head(inputs).softmax(1), expected, atol=2e-3), penalty


@pytest.mark.parametrize("validated", [True, False])
def test_the_penalty_is_chosen_on_images_that_were_not_fitted(validated):
    inputs, labels = clouds()
    val = clouds(90) if validated else None
    noise = torch.randn(300, 200, generator=torch.Generator().manual_seed(1))
    inputs = torch.cat([inputs, noise], 1)
    if val:
        val = torch.cat([val[0], torch.randn(90, 200)], 1), val[1]
    head = fit(inputs, labels, val, plan_of(labels))
    weak = [h for _, h in _path((inputs - inputs.mean(0)) / inputs.std(0), labels, plan_of(labels))]
    assert head(inputs).softmax(1).max() < weak[-1](inputs).softmax(1).max()
    assert (head(inputs).argmax(1) == labels).float().mean() > 0.6
    assert len(weak) == len(PENALTIES)


def test_rare_classes_count_as_much_if_asked():
    inputs, labels = clouds()
    kept = (labels > 0) | (torch.arange(300) < 30)
    inputs, labels = inputs[kept], labels[kept]
    found = [
        (fit(inputs, labels, None, plan_of(labels, balanced=balanced))(inputs).argmax(1) == 0).sum()
        for balanced in ("none", "sampling")
    ]
    assert found[0] < found[1]


def test_a_frozen_backbone_changes_in_its_classifier_alone(tiny):
    training = tiny.train(**START)
    (line,) = training.history
    assert (line["epoch"], line["step"]) == (0, 0)
    before, after = (load_checkpoint(x).weights for x in ("resnet20-cifar10", training.run))
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["fc.weight", "fc.bias"]
    assert line["val_top1"] > 80  # of images that this network was trained on
    assert training.test.top1 > 75
    assert load_checkpoint(training.run).metrics == line
    with pytest.raises(ValueError, match="is finished"):
        resume(training.run)


def test_what_is_validated_is_what_is_saved(tiny):
    from resnetlab.evaluation.evaluate import evaluate

    training = tiny.train(**START, head_views=3)
    again = evaluate(training.run, split="val", execution="plain")
    assert again.top1 == pytest.approx(training.history[0]["val_top1"])
    assert again.loss == pytest.approx(training.history[0]["val_loss"], rel=1e-3)
    assert again.temperature != 1
    assert again.tempered_loss <= again.loss


def test_stopped_amid_the_features_it_starts_anew(tiny, tmp_path, monkeypatch):
    from resnetlab.training import head

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(head, "fit", stop)
        with pytest.raises(KeyboardInterrupt) as stopped:
            tiny.train("broken", **START)
    assert "nothing was saved yet; start again: resnetlab resume" in str(stopped.value)
    resume(tmp_path / "broken")
    whole = tiny.train("whole", **START)
    assert tiny.contents(tmp_path / "broken") == tiny.contents(whole.run)


def test_killed_after_the_classifier_it_goes_on_from_there(tiny, tmp_path):
    """With last.pt of step 0."""
    recipe = START | {"freeze": "none", "head": "fitted", "warmup_epochs": 0}
    whole = tiny.train("whole", **recipe)
    with tiny.signal_after(2, len(PENALTIES) + 1), pytest.raises(KeyboardInterrupt):
        tiny.train("broken", **recipe)
    run = Run(tmp_path / "broken")
    saved = run.states.previous_file
    saved.replace(run.states.last_file)
    assert run.last["step"] == 0
    resume(run.path)
    assert tiny.contents(run.path) == tiny.contents(whole.run)


def test_processes_share_the_features(tiny):
    """Each computes its part; the sum of the parts is the whole."""
    from threading import Event

    from resnetlab.training.head import features
    from resnetlab.training.plan import load_data, load_pretrained, make_plan
    from resnetlab.training.state import State

    training = tiny.train(**START)
    recipe = Run(training.run).recipe
    plan = make_plan(recipe, *load_data(recipe))
    model = State.create(plan, load_pretrained(recipe)).model
    whole, labels = features(plan, model, plan.data, World(), Event())
    parts = []
    for rank in range(2):
        world = World(rank=rank, size=2)
        object.__setattr__(world, "sum", lambda values: values)
        object.__setattr__(world, "largest", lambda flag: flag)
        parts.append(features(plan, model, plan.data, world, Event())[0])
    assert torch.allclose(parts[0] + parts[1], whole, atol=1e-5)
    assert labels.tolist() == plan.data.labels.tolist()
    assert dataclasses.is_dataclass(plan)
