"""Which class is taken for which, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import Figure, PowerNorm, new_figure, own_style, shorten, write_figure

Shown = Literal["both", "share", "count"]


@own_style()
def figure_confusion(
    confusion: Tensor, classes: Sequence[str], *, title: str = "Confusion", show: Shown = "both"
) -> Figure:
    """Which class is taken for which: the share of each true class in %, and counts.

    confusion int (c, c): images of class i taken for class j. ``show`` "share" or "count" leaves
    the other out. Numbers are left out above 20 classes; names above 100, where the ten largest
    confusions are named instead.
    """
    counts = confusion.cpu().numpy()
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    c = len(classes)
    cell, font = (0.62, 9) if c <= 20 else (0.14, 7)
    side = max(cell * c, 3.6) if c <= 100 else 9
    figure = new_figure(side + 2.2, side + 1.6)
    axes = figure.subplots()
    # The square root, because the confusions to look for are a few percent.
    high = float(max(counts.max(), 1)) if show == "count" else 100
    shown = counts if show == "count" else percent
    norm = PowerNorm(0.5, vmin=0, vmax=high)
    picture = axes.imshow(shown, cmap="Blues", norm=norm, interpolation="nearest")
    beside = {"shrink": 0.88 if c > 5 else 0.75, "aspect": 30, "pad": 0.02}
    label = "images" if show == "count" else "share of the true class (%)"
    figure.colorbar(picture, label=label, **beside)
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
    else:
        axes.set_xlabel(f"predicted class\n\n{_largest(counts, classes)}", parse_math=False)
    if c <= 20:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                color = "white" if shown[i, j] > 0.35 * high else "black"
                share, number = f"{percent[i, j]:.1f}", f"{count:,}"
                text = {"both": f"{share}\n({number})", "share": share, "count": number}[show]
                axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    return figure


def _largest(counts: np.ndarray, classes: Sequence[str]) -> str:
    """The ten largest confusions, in words."""
    off = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-off, axis=None, kind="stable")[:10]
    names = [shorten(name, 24) for name in classes]
    pairs = [divmod(int(place), len(off)) for place in order]
    lines = [f"{names[i]} taken for {names[j]}: {off[i, j]:,}" for i, j in pairs if off[i, j]]
    return "\n".join(lines)


@check_types
def plot_confusion(
    confusion: Tensor,
    classes: Sequence[str],
    out: str | Path,
    *,
    title: str = "Confusion",
    show: Shown = "both",
) -> Picture:
    """Draw ``figure_confusion`` to a file, which is returned."""
    return write_figure(figure_confusion(confusion, classes, title=title, show=show), out)
