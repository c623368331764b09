"""Which class is taken for which, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    Figure,
    PowerNorm,
    new_figure,
    own_style,
    shorten_all,
    write_figure,
)

Shown = Literal["both", "share", "count"]


@own_style()
def figure_confusion(
    confusion: Tensor, classes: Sequence[str], *, title: str = "Confusion", show: Shown = "both"
) -> Figure:
    """Which class is taken for which: the share of each true class in %, and counts.

    confusion int (c, c): images of class i taken for class j. ``show`` "share" or "count" leaves
    the other out. Above 20 classes, the ten largest confusions are named instead of the numbers;
    above 100, the classes have no names.
    """
    counts = confusion.cpu().numpy()
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    c = len(classes)
    cell, font = (0.62, 9) if c <= 20 else (0.14, 7)
    side = max(cell * c, 3.6) if c <= 100 else 9
    figure = new_figure(side + 2.6, side + (2.1 if c <= 20 else 3.6))
    axes = figure.subplots()
    axes.set_anchor("N")
    # The square root, because the confusions to look for are a few percent.
    high = float(max(counts.max(), 1)) if show == "count" else 100
    shown = counts if show == "count" else percent
    norm = PowerNorm(0.5, vmin=0, vmax=high)
    picture = axes.imshow(shown, cmap="Blues", norm=norm, interpolation="nearest")
    beside: dict[str, Any] = {"shrink": 0.88 if c > 5 else 0.75, "aspect": 30, "pad": 0.02}
    beside |= {"anchor": (0, 1), "panchor": False}  # both begin at the top
    label = "images" if show == "count" else "share of the true class (%)"
    figure.colorbar(picture, label=label, **beside)
    accuracy = 100 * counts.trace() / max(counts.sum(), 1)
    title = f"{title}: {accuracy:.2f} % of {counts.sum():,} images right"
    figure.suptitle(title, fontsize=12 if c > 5 else 10, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if c <= 100:
        names = {"labels": shorten_all(classes, 24 if c <= 20 else 18), "fontsize": font}
        axes.set_xticks(range(c), rotation=90 if c > 20 else 45, parse_math=False, **names)
        axes.set_yticks(range(c), parse_math=False, **names)
        if c <= 20:
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
    if c > 20:
        figure.supxlabel(_largest(counts, classes), fontsize=9, parse_math=False)
    else:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                color = "white" if shown[i, j] > 0.5 * high else "black"
                share, number = f"{percent[i, j]:.1f}", f"{count:,}"
                text = {"both": f"{share}\n({number})", "share": share, "count": number}[show]
                axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    return figure


def _largest(counts: np.ndarray, classes: Sequence[str]) -> str:
    """The ten largest confusions, in words."""
    off = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-off, axis=None, kind="stable")[:10]
    names = shorten_all(classes, 24)
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
