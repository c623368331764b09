"""Against scipy, a plain enumeration, and what chance really does."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resnetlab.errors import UserError
from resnetlab.evaluation.comparing import RunComparison, between_groups, compare_runs, mcnemar
from resnetlab.weights.checkpoint import load_checkpoint


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 100))
def test_mcnemar_by_counting_coins(only_a, only_b, both):
    a = torch.tensor([True] * only_a + [False] * only_b + [True] * both)
    b = torch.tensor([False] * only_a + [True] * only_b + [True] * both)
    found_a, found_b, p, (low, high) = mcnemar(a, b)
    assert (found_a, found_b) == (only_a, only_b)
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert p == pytest.approx(min(1, 2 * tail) if only_a != only_b else 1)
    assert low <= 100 * (only_b - only_a) / len(a) <= high


def test_equal_networks_are_seldom_called_different():
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(300):
        a, b = (torch.from_numpy(rng.random(500) < 0.9) for _ in "ab")
        called += mcnemar(a, b)[2] < 0.05
    assert called / 300 < 0.07


@given(
    st.lists(st.integers(8000, 9900).map(lambda x: x / 100), min_size=2, max_size=4),
    st.lists(st.integers(8000, 9900).map(lambda x: x / 100), min_size=2, max_size=4),
)
def test_the_permutation_test_by_dealing_all_ways(a, b):
    everything = np.array(a + b)
    leads = []
    for chosen in itertools.combinations(range(len(everything)), len(a)):
        mask = np.zeros(len(everything), bool)
        mask[list(chosen)] = True
        leads.append(everything[~mask].mean() - everything[mask].mean())
    leads = np.array(leads)
    up, down = (leads >= np.mean(b) - np.mean(a) - 1e-9), (leads <= np.mean(b) - np.mean(a) + 1e-9)
    p, least, _ = between_groups(a, b)
    assert p == pytest.approx(min(1, 2 * min(up.mean(), down.mean())), abs=1e-9)
    assert least == pytest.approx(min(1, 2 / len(leads)))


def test_the_interval_over_seeds_is_welchs():
    a, b = [90.1, 90.3, 90.2, 90.4], [91.0, 91.2, 91.1, 90.9]
    p, least, interval = between_groups(a, b)
    theirs = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert interval == pytest.approx((theirs.low, theirs.high))
    assert p == pytest.approx(least) == pytest.approx(2 / 70)


def made(**changes):
    values = {"a": "small", "b": "large", "dataset": "cifar10", "split": "test", "n": 10_000}
    values |= {"top1_a": (90.0,), "top1_b": (91.0,), "only_a": 300, "only_b": 400}
    values |= {"interval": (0.5, 1.5), "p": 0.0002}
    return RunComparison(**values | changes)


def test_the_sentence_says_what_was_found():
    real = made()
    assert real.verdict == "real"
    assert "large is 1.00 percentage points better than small" in real.sentence()
    assert "hardly luck" in real.sentence()
    assert "fewer than 1 of 1,000 comparisons" in real.sentence()
    assert "large is better by 0.50 to 1.50 points" in real.sentence()
    worse = made(top1_b=(89.0,), interval=(-1.5, -0.5))
    assert "small is 1.00 percentage points better than large" in worse.sentence()
    assert "small is better by 0.50 to 1.50 points" in worse.sentence()
    chance = made(p=0.31, interval=(-0.4, 2.4))
    assert chance.verdict == "may be chance"
    assert "may be luck" in chance.sentence()
    assert "in 31 of 100 comparisons" in chance.sentence()
    assert "large is between 0.40 points worse and 2.40 points better" in chance.sentence()
    few = made(top1_a=(90, 91, 92), top1_b=(93, 94, 95), only_a=None, p=0.1, least_p=0.1)
    assert few.verdict == "too few runs"
    assert "3 and 3 runs are too few" in few.sentence()
    assert made(top1_b=(90.0,), p=1.0, interval=(-0.5, 0.5)).sentence() == (
        "large and small are equally good on these images. With 95 % confidence, large is between "
        "0.50 points worse and 0.50 points better."
    )


def test_runs_are_compared_on_the_same_images(smoke, tiny, tmp_path, resnetlab):
    tiny.train("seeds/0")
    tiny.train("seeds/1", seed=1)
    other = tmp_path / "seeds" / "0"
    found = compare_runs(smoke.run, other)
    assert found.n == 100
    assert found.only_b - found.only_a == round(found.top1_b[0] - found.top1_a[0])
    same = compare_runs(smoke.run, smoke.run)
    assert (same.difference, same.p, same.only_a) == (0, 1, 0)
    groups = compare_runs(tmp_path / "seeds", [smoke.run, smoke.run])
    assert (len(groups.top1_a), groups.verdict) == (2, "too few runs")
    with pytest.raises(UserError, match="one run cannot be compared with 2"):
        compare_runs(smoke.run, tmp_path / "seeds")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run; name a run folder"):
        compare_runs(smoke.run, tmp_path / "empty")
    answer = resnetlab("compare-runs", smoke.run, other)
    assert answer.code == 0
    assert "McNemar's exact test on the same images" in answer.out
    assert found.sentence() in answer.out


def test_other_images_are_a_sentence(smoke, samples):
    one = load_checkpoint(smoke.run)
    with pytest.raises(UserError, match="takes 3-channel images"):
        compare_runs(one, one, dataset="fashion-mnist-sample", data_dir=samples)
