"""Loss, accuracy and learning rate of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.errors import UserError
from resnetlab.files import user_path
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Axes,
    MaxNLocator,
    legend_below,
    new_figure,
    own_style,
    style_curves,
    write_figure,
)
from resnetlab.runs import Run, best_epoch


@own_style()
def plot_curves(
    run: str | Path | Sequence[Mapping[str, Any]], out: str | Path | None = None
) -> Picture:
    """Loss, accuracy and learning rate of a run over its epochs, the best epoch marked.

    ``run`` is a run folder, or the lines of its metrics.jsonl, which need ``out``; its default is
    curves.png in the folder. Values may be None, as without a validation split. Returns the file;
    UserError if there is no epoch to draw.
    """
    if isinstance(run, str | Path):
        folder = Run(user_path(run))
        name, metrics = folder.path.resolve().name, folder.metrics
        out = out or folder.curves_file
    else:
        name, metrics = "", run
    if out is None:
        raise UserError("metrics without a run folder need out, the file to draw to.")
    if not metrics:
        raise UserError(f"{name or 'the run'} has no finished epoch to draw yet.")
    figure = new_figure(12, 4)
    if name:
        figure.suptitle(name)
    loss, accuracy, rate = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    epochs = _values(metrics, "epoch")
    # A few points are shown as such: a line of one epoch would be invisible.
    style = {"marker": "o" if len(epochs) <= 30 else "", "markersize": 3.5, "linewidth": 1.6}
    for axes, key, title, unit in (
        (loss, "loss", "Loss", "cross entropy (nats)"),
        (accuracy, "top1", "Accuracy", "top-1 accuracy (%)"),
    ):
        for split, color, label in (("train", GREY, "training"), ("val", BLUE, "validation")):
            values = _values(metrics, f"{split}_{key}")
            if not np.isnan(values).all():
                axes.plot(epochs, values, color=color, label=label, **style)
        axes.set(title=title, ylabel=unit)
    _draw_rates(rate, epochs, metrics, style)
    best = metrics[best_epoch(metrics)]
    if best.get("val_top1") is not None:
        _mark_best(loss, accuracy, best)
    for axes, ticks in ((loss, 10), (accuracy, 10), (rate, 6)):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
        style_curves(axes)
        legend_below(axes)
    if len(epochs) == 1:  # points in the middle, rather than on an edge
        loss.margins(y=1)
        accuracy.margins(y=1)
    return write_figure(figure, out)


def _values(metrics: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([math.nan if (v := line.get(key)) is None else v for line in metrics], float)


def _draw_rates(
    axes: Axes, epochs: np.ndarray, metrics: Sequence[Mapping[str, Any]], style: dict[str, Any]
) -> None:
    """The learning rates of each epoch's last step; Muon has one of its own."""
    axes.plot(epochs, _values(metrics, "lr"), color=GREEN, clip_on=False, **style)
    muon = _values(metrics, "muon_lr")
    if not np.isnan(muon).all():
        axes.get_lines()[0].set_label("lr")
        axes.plot(
            epochs, muon, color=ORANGE, linestyle="--", label="muon_lr", clip_on=False, **style
        )
    axes.set(title="Learning rate", ylabel="learning rate", ylim=(0, None))


def _mark_best(loss: Axes, accuracy: Axes, best: Mapping[str, Any]) -> None:
    for axes in (loss, accuracy):
        axes.axvline(best["epoch"], color=ORANGE, linestyle=":", linewidth=1.2)
    label = f"best: {best['val_top1']:.2f} % in epoch {best['epoch']:g}"
    style = {"color": ORANGE, "marker": "*", "markersize": 12, "linestyle": ""}
    accuracy.plot(best["epoch"], best["val_top1"], label=label, **style)
