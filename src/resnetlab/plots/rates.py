"""The curve of a learning-rate range test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    legend_below,
    new_figure,
    own_style,
    style_curves,
    write_figure,
)


@own_style()
def plot_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float,
    current: float,
    out: str | Path,
) -> Picture:
    """Draw loss against learning rate, with the suggested rate and the recipe's own."""
    figure = new_figure(7, 4.6)
    axes = figure.subplots()
    axes.plot(rates, losses, color=GREY, alpha=0.45, linewidth=1, label="loss of a batch")
    axes.plot(rates, smoothed, color=BLUE, linewidth=2, label="average")
    axes.axvline(suggestion, color=ORANGE, linestyle="--", label=f"suggested: {suggestion:g}")
    axes.axvline(current, color=GREY, linestyle=":", label=f"the recipe's: {current:g}")
    style_curves(axes)
    axes.set_xscale("log")
    low, high = min(smoothed), max(smoothed[: max(1, len(smoothed) // 2)])
    margin = max(high - low, 0.1)
    axes.set_ylim(max(0.0, low - 0.3 * margin), high + margin)
    axes.set(title="Learning-rate range test", xlabel="lr", ylabel="cross entropy (nats)")
    legend_below(axes)
    return write_figure(figure, out)
