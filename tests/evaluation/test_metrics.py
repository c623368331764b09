"""Against scipy, scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score
from torchmetrics.functional.classification import multiclass_calibration_error

from resnetlab.evaluation import metrics
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.metrics import CALIBRATION_BINS, tally, wilson


def batch(n, classes, seed, skill=0.0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=generator)
    labels = torch.randint(classes, (n,), generator=generator)
    logits[torch.arange(n), labels] += skill
    return logits, labels


@given(st.integers(1, 2000), st.data())
def test_wilsons_interval_is_scipys(n, data):
    right = data.draw(st.integers(0, n))
    theirs = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)
    assert wilson(0, 0) == (0, 100)


def test_wilsons_interval_holds_the_truth_as_often_as_it_says():
    drawn = np.random.default_rng(0).binomial(300, 0.93, 4000)
    inside = [low <= 93 <= high for low, high in (wilson(int(right), 300) for right in drawn)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@given(st.integers(1, 80), st.integers(2, 6), st.integers(0, 1000))
def test_calibration_error_is_torchmetrics(n, classes, seed):
    logits, labels = batch(n, classes, seed)
    a = Answers.read(logits, labels)
    theirs = multiclass_calibration_error(
        logits.double().softmax(1), labels, classes, n_bins=CALIBRATION_BINS
    )
    ours = metrics.calibration_error(metrics.reliability(a.confidence, a.right))
    assert ours == pytest.approx(100 * float(theirs), abs=1e-3)


def test_a_sure_network_that_is_half_right_is_half_off():
    sure = Answers.read(torch.tensor([[40.0, 0.0], [40.0, 0.0]]), torch.tensor([0, 1]))
    (only,) = metrics.reliability(sure.confidence, sure.right)
    assert (only.n, only.accuracy, only.high) == (2, 50, 100)
    assert metrics.calibration_error([only]) == pytest.approx(50)


def of_classes(right, labels, classes):
    counts = torch.bincount(labels, minlength=classes)
    return torch.bincount(labels[right], minlength=classes), counts


@given(st.integers(1, 60), st.integers(2, 8), st.integers(0, 1000))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_balanced_accuracy_is_scikit_learns(n, classes, seed):
    logits, labels = batch(n, classes, seed, 3)
    predicted = logits.argmax(1)
    ours = metrics.balanced_accuracy(*of_classes(predicted == labels, labels, classes))
    assert ours == pytest.approx(100 * balanced_accuracy_score(labels, predicted))


def test_the_interval_of_balanced_accuracy_is_that_of_scipys_bootstrap():
    logits, labels = batch(400, 4, 1, 4)
    labels[:300] = 0  # a common class
    right = logits.argmax(1) == labels

    def balanced(indices):
        return metrics.balanced_accuracy(*of_classes(right[indices], labels[indices], 4))

    theirs = stats.bootstrap(
        (np.arange(400),),
        balanced,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = metrics.balanced_interval(*of_classes(right, labels, 4))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.8)
    simple = wilson(int(right.sum()), 400)
    assert ours[1] - ours[0] > 1.2 * (simple[1] - simple[0])  # three classes have few images


@given(st.integers(1, 200), st.integers(0, 1000))
def test_selective_accuracy_by_a_plain_computation(n, seed):
    logits, labels = batch(n, 5, seed, 2)
    a = Answers.read(logits, labels)
    surest = sorted(range(n), key=lambda i: -float(a.confidence[i]))
    for point in metrics.selective(a.confidence, a.right):
        kept = surest[: point["n"]]
        assert point["n"] == max(1, round(point["coverage"] * n / 100))
        hits = sum(bool(a.right[i]) for i in kept)
        assert point["accuracy"] == pytest.approx(100 * hits / len(kept))
        assert point["confidence"] == pytest.approx(100 * float(a.confidence[kept[-1]]))


@given(st.integers(2, 100), st.floats(0, 1), st.integers(0, 1000))
def test_the_interval_of_a_mean_is_scipys_within_the_possible(n, chance, seed):
    generator = torch.Generator().manual_seed(seed)
    values = 100 * (torch.rand(n, 15, generator=generator).double() < chance).double().mean(1)
    low, high = metrics.mean_interval(values)
    assert 0 <= low <= float(values.mean()) <= high <= 100
    if values.std() > 0:
        theirs = stats.norm.interval(0.95, values.mean(), stats.sem(values))
        assert (low, high) == pytest.approx((max(0, theirs[0]), min(100, theirs[1])))


def test_of_one_image_no_mean_is_known():
    assert metrics.mean_interval(torch.tensor([40.0])) == (0, 100)
    assert metrics.mean_interval(torch.tensor([-7.0]), -100) == (-100, 100)


@given(st.integers(1, 100), st.integers(0, 1000), st.floats(0, 1))
def test_rejections_by_a_plain_computation(n, seed, threshold):
    a = Answers.read(*batch(n, 3, seed, 1))
    pairs = [(c < threshold, r) for c, r in zip(a.confidence.tolist(), a.right.tolist())]  # noqa: B905

    def share(chosen):
        return 100 * sum(chosen) / len(chosen) if chosen else 0

    assert metrics.rejections(a.confidence, a.right, threshold) == {
        "threshold": pytest.approx(100 * threshold),
        "rejected": pytest.approx(share([out for out, _ in pairs])),
        "rejected_right": pytest.approx(share([out for out, right in pairs if right])),
        "rejected_wrong": pytest.approx(share([out for out, right in pairs if not right])),
        "accuracy_of_the_rest": pytest.approx(share([right for out, right in pairs if not out])),
    }


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 1000), st.integers(1, 60))
def test_batches_add_up(n, classes, seed, size):
    logits, labels = batch(n, classes, seed)
    whole = Answers.read(logits, labels, 1.5)
    pairs = zip(logits.split(size), labels.split(size), strict=True)
    joined = Answers.join(Answers.read(*pair, 1.5) for pair in pairs)
    for name, column in vars(whole).items():
        torch.testing.assert_close(getattr(joined, name), column)
    for i, (row, label) in enumerate(zip(logits.double(), labels, strict=True)):
        order = row.argsort(descending=True)
        assert order[whole.rank[i]] == label
        assert whole.raw_loss[i] == pytest.approx(float(-row.log_softmax(0)[label]))
        assert whole.confidence[i] == pytest.approx(float((row / 1.5).softmax(0).max()))


def test_of_equal_logits_the_first_wins():
    a = Answers.read(torch.zeros(3, 3), torch.arange(3))
    assert (a.predicted.tolist(), a.rank.tolist()) == ([0, 0, 0], [0, 1, 2])


def test_tally_sums_what_the_loop_divides():
    logits, labels = batch(10, 4, 0)
    loss, right, n = tally(logits, labels).tolist()
    one_by_one = -logits.double().log_softmax(1)[torch.arange(10), labels]
    assert loss == pytest.approx(float(one_by_one.sum()))
    assert (right, n) == (int((logits.argmax(1) == labels).sum()), 10)
