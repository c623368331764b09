"""The networks that come with the package are what their cards say."""

import json

import pytest

from resnetlab.evaluation.evaluate import evaluate
from resnetlab.files import cache_home
from resnetlab.weights.checkpoint import load_checkpoint
from resnetlab.weights.locate import BUNDLED, bundled_names


@pytest.mark.parametrize("name", bundled_names())
def test_a_card_tells_the_network_and_its_training(name: str) -> None:
    checkpoint = load_checkpoint(name)
    assert checkpoint.dataset == "cifar10"
    assert len(checkpoint.classes) == checkpoint.architecture.num_classes
    assert not checkpoint.guessed
    assert checkpoint.recipe["name"] == "cifar10-quick"


@pytest.mark.parametrize("name", bundled_names())
def test_the_accuracy_on_the_card_is_true(name: str) -> None:
    if not (cache_home() / "cifar10").is_dir():
        pytest.skip("CIFAR-10 is not in the cache: resnetlab data fetch cifar10")
    card = json.loads((BUNDLED / f"{name}.json").read_text())
    result = evaluate(name)
    assert (result.n, result.top1) == (10_000, pytest.approx(card["test"]["top1"], abs=0.02))
    assert result.loss == pytest.approx(card["test"]["loss"], abs=1e-3)
