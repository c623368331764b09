"""Whether the difference between two networks is real, or chance could have made it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.compute.execution import Execution
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import REPRODUCIBLE, evaluate
from resnetlab.evaluation.metrics import RESAMPLES, Interval
from resnetlab.evaluation.result import Evaluation
from resnetlab.files import user_path
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import Checkpoint

Side = str | Path | Checkpoint | Sequence[str | Path | Checkpoint]
LEVEL = 0.05
"""A difference that chance makes less often than this is called real."""


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two networks, or two groups of runs that differ in their seeds, on the same images."""

    a: str
    b: str
    dataset: str
    split: str
    n: int
    """images"""
    top1_a: tuple[float, ...]
    """%, of each run"""
    top1_b: tuple[float, ...]
    only_a: int | None = None
    """images that A alone has right; None: several runs, which are not compared image by image"""
    only_b: int | None = None
    interval: Interval
    """of the difference in percentage points, 95 %"""
    p: float
    """how often chance alone makes a difference at least as large, both ways"""
    least_p: float = 0.0
    """the smallest that so few runs could give"""

    @property
    def difference(self) -> float:
        """Percentage points by which B is better than A."""
        return float(np.mean(self.top1_b) - np.mean(self.top1_a))

    @property
    def test(self) -> str:
        if self.only_a is not None:
            return "McNemar's exact test on the same images"
        return f"permutation test over {len(self.top1_a)} and {len(self.top1_b)} runs"

    @property
    def verdict(self) -> Literal["real", "may be chance", "too few runs"]:
        if self.least_p >= LEVEL:
            return "too few runs"
        return "real" if self.p < LEVEL else "may be chance"

    def sentence(self) -> str:
        """What was found, for a newcomer."""
        size = abs(self.difference)
        low, high = (
            self.interval if self.difference >= 0 else (-self.interval[1], -self.interval[0])
        )
        better, worse = (self.b, self.a) if self.difference >= 0 else (self.a, self.b)
        what = f"{better} is {size:.2f} percentage points better than {worse} on these images"
        if self.verdict == "too few runs":
            return (
                f"{what}, but {len(self.top1_a)} and {len(self.top1_b)} runs are too few to tell "
                "whether that is luck: even a perfect separation could be chance in "
                f"{100 * self.least_p:.0f} of 100 comparisons. Train four seeds of each."
            )
        truth = f"With 95 % confidence, {better} is "
        if low > 0:
            truth += f"better by {low:.2f} to {high:.2f} points."
        else:
            truth += f"between {-low:.2f} points worse and {high:.2f} points better."
        odds = f"two equally good networks would differ this much by chance {_odds(self.p)}"
        if self.verdict == "real":
            return f"{what}, and that is hardly luck: {odds}. {truth}"
        if size == 0:
            return f"{better} and {worse} are equally good on these images. {truth}"
        return f"{what}, but that may be luck: {odds}. {truth}"

    def to_dict(self) -> dict[str, Any]:
        """What ``compare-runs --json`` prints."""
        keys = ("a", "b", "dataset", "split", "n", "top1_a", "top1_b", "only_a", "only_b")
        keys += ("difference", "interval", "p", "least_p", "test", "verdict")
        return {key: getattr(self, key) for key in keys} | {"sentence": self.sentence()}


def _odds(p: float) -> str:
    if p < 0.001:
        return "in fewer than 1 of 1,000 comparisons"
    if p < 0.1:
        return f"in {1000 * p:.0f} of 1,000 comparisons"
    return f"in {100 * p:.0f} of 100 comparisons"


def mcnemar(right_a: Tensor, right_b: Tensor) -> tuple[int, int, float, Interval]:
    """Two networks on the same images: bool (n,) each, whether an image is recognised.

    Returns the images that one alone has right, A's and B's; the exact two-sided probability that
    chance splits them so unevenly (McNemar 1947); and the 95 % interval of B's lead in percentage
    points, by a bootstrap over the images.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n = len(right_a)
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    cells = np.array([only_a, only_b, n - only_a - only_b]) / n
    draws = np.random.default_rng(0).multinomial(n, cells, size=5 * RESAMPLES)
    low, high = np.percentile(100 * (draws[:, 1] - draws[:, 0]) / n, [2.5, 97.5])
    return only_a, only_b, p, (float(low), float(high))


def between_groups(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, Interval]:
    """Two groups of results, of runs that differ in their seeds alone.

    Returns the two-sided probability that chance deals the results so unevenly (a permutation test
    of the means, exact up to 10,000 ways to deal them), the smallest that there can be with so
    few, and Welch's 95 % interval of the difference of the means.
    """

    def lead(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        # Rounded, so that deals which are equally uneven count as that.
        return np.round(np.mean(y, axis=axis) - np.mean(x, axis=axis), 9)

    ways = math.comb(len(a) + len(b), len(a))
    test = stats.permutation_test(
        (a, b), lead, vectorized=True, n_resamples=9999, rng=np.random.default_rng(0)
    )
    return float(test.pvalue), min(1.0, 2 / ways), _welch(np.asarray(a), np.asarray(b))


def _welch(a: np.ndarray, b: np.ndarray) -> Interval:
    """95 % interval of how far the mean of ``b`` lies above that of ``a``, at least two of each."""
    shares = np.array([x.var(ddof=1) / len(x) for x in (a, b)])
    half = 0.0
    if shares.sum() > 0:
        freedom = shares.sum() ** 2 / (shares**2 / (np.array([len(a), len(b)]) - 1)).sum()
        half = float(stats.t.ppf(0.975, freedom) * np.sqrt(shares.sum()))
    lead = float(b.mean() - a.mean())
    return lead - half, lead + half


@check_types
@torch_defaults()
def compare_runs(
    a: Side,
    b: Side,
    *,
    split: Literal["val", "test"] = "test",
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    execution: Execution | str = REPRODUCIBLE,
) -> RunComparison:
    """Is the difference between two runs real? And between two recipes, over seeds?

    Args:
        a, b: A run folder each, or what else ``evaluate`` takes: both see the same images, and the
            images on which they disagree decide (McNemar). Or several of each, or a folder that
            holds run folders: then the runs' accuracies are compared (permutation test).
        split, dataset, data_dir, execution: See ``evaluate``.

    Raises:
        UserError: What ``evaluate`` refuses, one run against several, or networks that were not
            evaluated on the same images.
    """
    groups = [_runs(name) for name in (a, b)]
    counts = [len(group) for group in groups]
    if 1 in counts and max(counts) > 1:
        raise UserError(
            f"one run cannot be compared with {max(counts)}; give one of each, or several of each."
        )
    where: dict[str, Any] = {"split": split, "dataset": dataset, "data_dir": data_dir}
    found = [[evaluate(run, execution=execution, **where) for run in group] for group in groups]
    first = found[0][0]
    for one in (one for group in found for one in group):
        _check_same_images(first, one)
    top1_a, top1_b = (tuple(one.top1 for one in group) for group in found)
    named: dict[str, Any] = {"a": _name(a), "b": _name(b), "top1_a": top1_a, "top1_b": top1_b}
    if named["a"] == named["b"]:
        named |= {"a": str(a), "b": str(b)}
    named |= {"dataset": first.dataset, "split": first.split, "n": first.n}
    if counts == [1, 1]:
        rights = (group[0].answers.right for group in found)
        only_a, only_b, p, interval = mcnemar(*rights)
        return RunComparison(only_a=only_a, only_b=only_b, p=p, interval=interval, **named)
    p, least_p, interval = between_groups(top1_a, top1_b)
    return RunComparison(p=p, least_p=least_p, interval=interval, **named)


def _runs(source: Side) -> list[str | Path | Checkpoint]:
    """The run itself, or those in a folder that is none itself."""
    if isinstance(source, Checkpoint):
        return [source]
    if not isinstance(source, str | Path):
        return list(source)
    folder = user_path(source)
    if not folder.is_dir() or Run(folder).best_file.exists():
        return [source]
    inner = sorted(path for path in folder.iterdir() if Run(path).best_file.is_file())
    if not inner:
        raise UserError(f"{source} holds no run; name a run folder or a folder of run folders.")
    return list(inner)


def _name(source: Side) -> str:
    if isinstance(source, Checkpoint):
        return source.origin
    if isinstance(source, str | Path):
        return Path(source).name or str(source)
    return ", ".join(map(_name, source))


def _check_same_images(first: Evaluation, other: Evaluation) -> None:
    if first.dataset != other.dataset or not first.answers.labels.equal(other.answers.labels):
        raise UserError(
            "the networks were not evaluated on the same images; name one `dataset` for all, or "
            "take `split` test."
        )
