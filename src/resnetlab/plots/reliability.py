"""Whether a network's confidence can be believed, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnetlab.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    Axes,
    Figure,
    legend_below,
    new_figure,
    own_style,
    style_curves,
)


@own_style()
def figure_reliability(evaluation: Mapping[str, Any], *, title: str = "") -> Figure:
    """How often predictions of each confidence are right, before and after the temperature.

    evaluation: ``Evaluation.to_dict()``, or what evaluation.json holds of one. An honest network
    lies on the diagonal, an overconfident one below it. On the right: the accuracy of the surest
    answers.
    """
    figure = new_figure(11, 4.6)
    bars, curve = figure.subplots(1, 2, width_ratios=(1, 1.1))
    bars.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="honest")
    raw, own = evaluation["raw_reliability"], evaluation["reliability"]
    error = evaluation["calibration_error"], evaluation["tempered_calibration_error"]
    temperature = evaluation["temperature"]
    if temperature == 1:
        _draw_bins(bars, own, BLUE, "o", f"confidence: error {error[1]:.1f} %")
    else:
        _draw_bins(bars, raw, ORANGE, "s", f"as trained: error {error[0]:.1f} %", -0.6)
        label = f"temperature {temperature:.2f}: error {error[1]:.1f} %"
        _draw_bins(bars, own, BLUE, "o", label, 0.6)
    bars.set(xlabel="confidence (%)", ylabel="right predictions (%)", title="Reliability")
    bars.set(xlim=(0, 102), ylim=(0, 102), aspect="equal")
    points = evaluation["selective"]
    coverage = [point["coverage"] for point in points]
    accuracy = np.array([point["accuracy"] for point in points])
    low, high = np.array([point["interval"] for point in points]).T
    curve.fill_between(coverage, low, high, color=BLUE, alpha=0.18, linewidth=0)
    curve.plot(coverage, accuracy, color=BLUE, marker="o", markersize=4, label="surest predictions")
    rejections = evaluation.get("none_of_these")
    if rejections:
        kept = 100 - rejections["rejected"]
        style = {"marker": "*", "markersize": 13, "linestyle": "", "color": ORANGE}
        label = f"threshold {rejections['threshold']:.0f} %: {kept:.0f} % kept"
        curve.plot(kept, rejections["accuracy_of_the_rest"], label=label, **style)
    curve.set(xlabel="images kept (%), the surest first", ylabel="right predictions (%)")
    curve.set(title="If only the surest predictions count")
    curve.invert_xaxis()
    for axes in (bars, curve):
        style_curves(axes)
        legend_below(axes)
    figure.suptitle(_title(evaluation, title), parse_math=False)
    return figure


def _title(evaluation: Mapping[str, Any], title: str) -> str:
    of = f"{evaluation['dataset']}, {evaluation['split']}: {evaluation['n']:,} images"
    return f"{title}, {of}" if title else of


def _draw_bins(
    axes: Axes,
    bins: Sequence[Mapping[str, Any]],
    color: str,
    marker: str,
    label: str,
    shift: float = 0.0,
) -> None:
    """Points with intervals, larger where there are more images; shifted, so that both show."""
    n = np.array([b["n"] for b in bins])
    confidence = np.array([b["confidence"] for b in bins]) + shift
    accuracy = np.array([b["accuracy"] for b in bins])
    errors = np.abs(np.array([b["interval"] for b in bins]).T - accuracy)
    axes.errorbar(confidence, accuracy, errors, color=color, linewidth=0.9, alpha=0.8)
    style = {"color": color, "marker": marker, "alpha": 0.8, "zorder": 3}
    axes.scatter(confidence, accuracy, 12 + 90 * n / n.max(), label=label, **style)
