"""Loss, accuracy and learning rate of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from resnetlab.errors import UserError
from resnetlab.plots.style import BLUE, GREEN, GREY, VERMILLION, new_figure, write_figure
from resnetlab.runs import Run, best_epoch


def plot_curves(
    run: str | Path | Sequence[Mapping[str, Any]], out: str | Path | None = None
) -> Path:
    """Loss, accuracy and learning rate of a run over its epochs, the best epoch marked.

    ``run`` is a run folder, or the lines of its metrics.jsonl, which need ``out``; its default is
    curves.png in the folder. Values may be None, as without a validation set. Returns the file;
    UserError if there is no epoch to draw.
    """
    if isinstance(run, str | Path):
        name, metrics = Path(run).resolve().name, Run(run).metrics
        out = out or Run(run).curves_file
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
    rate.plot(epochs, _values(metrics, "lr"), color=GREEN, clip_on=False, **style)
    rate.set(title="Learning rate", ylabel="learning rate", ylim=(0, None))
    best = metrics[best_epoch(metrics)]
    if best.get("val_top1") is not None:
        _mark_best(loss, accuracy, best)
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.ticklabel_format(useOffset=False)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (loss, accuracy):
        if axes.get_lines():  # their legend stands below the axes, where no curve can be
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "frameon": False}
            axes.legend(ncols=2, **below)
        if len(epochs) == 1:
            axes.margins(y=1)
    return write_figure(figure, out)


def _values(metrics: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([math.nan if (v := line.get(key)) is None else v for line in metrics], float)


def _mark_best(loss: Axes, accuracy: Axes, best: Mapping[str, Any]) -> None:
    for axes in (loss, accuracy):
        axes.axvline(best["epoch"], color=VERMILLION, linestyle=":", linewidth=1.2)
    label = f"best: {best['val_top1']:.2f} % in epoch {best['epoch']:g}"
    style = {"color": VERMILLION, "marker": "*", "markersize": 12, "linestyle": ""}
    accuracy.plot(best["epoch"], best["val_top1"], label=label, **style)
