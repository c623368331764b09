import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from resnetlab.data.catalogue import load_dataset
from resnetlab.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    calibrated,
    choose_threshold,
    fit_temperature,
    remark,
)
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import load_checkpoint


def answers(n, classes, seed, sureness):
    """Logits that know the label a little, ``sureness`` times too large."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), labels] += 1
    return sureness * logits, labels


@given(
    st.integers(20, 200), st.integers(2, 30), st.integers(0, 1000), st.sampled_from([0.3, 1, 2, 9])
)
def test_the_temperature_is_scipys_optimum(n, classes, seed, sureness):
    logits, labels = answers(n, classes, seed, sureness)

    def loss(log_temperature):
        return float(F.cross_entropy(logits.double() / math.exp(log_temperature), labels))

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    found = fit_temperature(logits, labels)
    assert loss(math.log(found)) <= best.fun + 1e-12
    assert found == pytest.approx(math.exp(best.x), rel=1e-5)


@pytest.mark.parametrize("sureness", [0.5, 4])
def test_the_temperature_is_scikit_learns(sureness):
    x, labels = answers(500, 7, 3, sureness)
    x = x.double()
    classifier = LogisticRegression(max_iter=1000).fit(x[:100].numpy(), labels[:100].numpy())
    rest, wanted = x[100:].numpy(), labels[100:]
    theirs = CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature")
    theirs.fit(rest, wanted.numpy())
    logits = torch.as_tensor(classifier.decision_function(rest))
    ours = (logits / fit_temperature(logits, wanted)).softmax(1)
    assert abs(fit_temperature(logits, wanted) - 1) > 0.01
    expected = torch.as_tensor(theirs.predict_proba(rest))
    torch.testing.assert_close(ours, expected.to(ours.dtype), atol=1e-4, rtol=1e-4)


def test_the_temperature_undoes_a_scale():
    logits, labels = answers(5000, 10, 0, 1)
    once = fit_temperature(logits, labels)
    assert fit_temperature(7 * logits, labels) == pytest.approx(7 * once)
    assert fit_temperature(logits / once, labels) == pytest.approx(1)


def test_what_cannot_be_fitted():
    logits, labels = torch.eye(3), torch.arange(3)
    assert fit_temperature(logits, labels) == 1  # never wrong
    assert fit_temperature(logits, labels.flip(0).roll(1)) == HOTTEST  # never right
    assert fit_temperature(torch.ones(3, 4), labels) == 1
    assert fit_temperature(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == 1
    faint, labels = answers(500, 4, 0, 0.001)
    assert fit_temperature(faint, labels) == pytest.approx(COLDEST)


def test_a_temperature_at_its_limit_is_remarked_on():
    logits, labels = answers(500, 4, 0, 1)
    assert remark(fit_temperature(logits, labels)) is None
    assert "limit of 20" in str(remark(fit_temperature(-logits, labels)))


@given(st.integers(1, 300), st.integers(0, 1000), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_threshold_rejects_as_many_right_answers_as_it_may(n, seed, rejected):
    logits, labels = answers(n, 4, seed, 2)
    threshold = choose_threshold(logits, labels, temperature=1.7, rejected=rejected)
    confidence, predicted = (logits.double() / 1.7).softmax(1).max(1)
    right = confidence[predicted == labels]
    if threshold is None:
        assert rejected * len(right) < 1
        return
    below = int((right < threshold).sum())
    assert below <= rejected * len(right) < below + 1


def test_a_training_ends_with_honest_confidence(smoke):
    best = Run(smoke.run).best
    data = load_dataset("cifar10-sample", "val", data_dir=best.recipe["data_dir"], val_size=100)
    again = calibrated(load_checkpoint(smoke.run / "best.pt"), data.prepared(best.preprocessing))
    assert (again.temperature, again.threshold) == (best.temperature, best.threshold)
    assert best.temperature != 1
    assert best.threshold is None or 0 < best.threshold < 1
    assert evaluate(smoke.run).top1 == smoke.test.top1
