"""Which class is taken for which, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from resnetlab.plots.picture import Picture
from resnetlab.plots.style import PowerNorm, new_figure, own_style, shorten, write_figure


@own_style()
def plot_confusion(
    confusion: Tensor, classes: Sequence[str], out: str | Path, *, title: str = "Confusion"
) -> Picture:
    """Which class is taken for which: the share of each true class in %, and counts.

    confusion int (c, c): images of class i taken for class j. Numbers are left out above 20
    classes, names above 100. Returns the file.
    """
    counts = confusion.cpu().numpy()
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    c = len(classes)
    cell, font = (0.62, 9) if c <= 20 else (0.14, 7)
    side = max(cell * c, 3.6) if c <= 100 else 9
    figure = new_figure(side + 2.2, side + 1.6)
    axes = figure.subplots()
    # The square root, because the confusions to look for are a few percent.
    norm = PowerNorm(0.5, vmin=0, vmax=100)
    picture = axes.imshow(percent, cmap="Blues", norm=norm, interpolation="nearest")
    beside = {"shrink": 0.88 if c > 5 else 0.75, "aspect": 30, "pad": 0.02}
    figure.colorbar(picture, label="share of the true class (%)", **beside)
    accuracy = 100 * counts.trace() / max(counts.sum(), 1)
    title = f"{title}: {accuracy:.2f} % of {counts.sum():,} images right"
    axes.set_title(title, pad=10, fontsize=12 if c > 5 else 10, parse_math=False)
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
