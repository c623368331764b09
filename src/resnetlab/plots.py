"""Pictures of numbers, and what all pictures share.

They use matplotlib's Figure alone and not pyplot, so no global state is touched.
Colours are Okabe and Ito's, which colour-blind people can tell apart; what a colour says, a mark
or a word says too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from resnetlab.files import atomic_write
from resnetlab.runs import best_epoch, read_metrics

BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
FONT = "DejaVu Sans"
"""comes with matplotlib and has the marks ✓ and ✗, which the user's default font may lack"""
DPI = 120


def plot_curves(
    run: str | Path | Sequence[Mapping[str, Any]], out: str | Path | None = None
) -> Path:
    """Loss, accuracy and learning rate of a run over its epochs, the best epoch marked.

    ``run`` is a run folder, or the lines of its metrics.jsonl, which need ``out``; its default is
    curves.png in the folder. Values may be None, as without a validation set. Returns the file;
    ValueError if there is no epoch to draw.
    """
    if isinstance(run, str | Path):
        name, metrics = Path(run).resolve().name, read_metrics(run)
        out = out or Path(run) / "curves.png"
    else:
        name, metrics = "", run
    if out is None:
        raise ValueError("metrics without a run folder need out, the file to draw to.")
    if not metrics:
        raise ValueError(f"{name or 'the run'} has no finished epoch to draw yet.")
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
    # Where a curve of a training that goes well is not.
    for axes, place in ((loss, "upper right"), (accuracy, "lower right")):
        if axes.get_lines():
            axes.legend(loc=place, framealpha=0.9, edgecolor="none")
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


def plot_confusion(
    confusion: Tensor, classes: Sequence[str], out: str | Path, *, title: str = "Confusion"
) -> Path:
    """Which class is taken for which: the share of each true class in %, and counts.

    confusion int (c, c): images of class i taken for class j. Numbers are left out above 20
    classes, names above 100. Returns the file.
    """
    counts = confusion.cpu().numpy()
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    c = len(classes)
    cell, font = (0.62, 9) if c <= 20 else (0.14, 7)
    side = max(cell * c, 2.5) if c <= 100 else 9
    figure = new_figure(side + 2.2, side + 1.6)
    axes = figure.subplots()
    # The square root, because the confusions to look for are a few percent.
    norm = PowerNorm(0.5, vmin=0, vmax=100)
    picture = axes.imshow(percent, cmap="Blues", norm=norm, interpolation="nearest")
    figure.colorbar(picture, label="share of the true class (%)", shrink=0.88, aspect=30, pad=0.02)
    accuracy = 100 * counts.trace() / max(counts.sum(), 1)
    axes.set_title(f"{title}: {accuracy:.2f} % of {counts.sum():,} images right", pad=10)
    axes.set(xlabel="predicted class", ylabel="true class")
    if c <= 100:
        names = {"labels": [shorten(name, 18) for name in classes], "fontsize": font}
        axes.set_xticks(range(c), rotation=90 if c > 20 else 45, parse_math=False, **names)
        axes.set_yticks(range(c), parse_math=False, **names)
        if c <= 20:
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
    if c <= 20:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                color = "white" if percent[i, j] > 35 else "black"
                text = f"{percent[i, j]:.1f}\n({count:,})"
                axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    return write_figure(figure, out)


def new_figure(width: float, height: float, *, between_rows: float = 0.02) -> Figure:
    """Inches; ``between_rows`` as a share of the height of one of them."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06, hspace=between_rows)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def shorten(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def write_figure(figure: Figure, out: str | Path) -> Path:
    """Save atomically in the format of the suffix; ValueError if matplotlib has none such."""
    out = Path(out)
    if out.suffix.lower().removeprefix(".") not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"--out {out}: name a file that ends in .png, .svg or .pdf.")
    with atomic_write(out) as temporary:
        figure.savefig(temporary)
    return out
