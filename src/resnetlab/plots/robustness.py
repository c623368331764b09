"""What corruptions of the images leave of a network's accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnetlab.plots.style import BLUE, GREY, Figure, new_figure, own_style


@own_style()
def figure_corruptions(found: Mapping[str, Any]) -> Figure:
    """Accuracy by corruption and severity, and each corruption's mean beside the clean accuracy.

    found: ``Robustness.to_dict()``, or what evaluation.json holds of one.
    """
    rows = found["corruptions"]
    table = np.array([row["by_severity"] for row in rows])
    figure = new_figure(10, 5.6)
    grid, bars = figure.subplots(1, 2, width_ratios=(1.25, 1), sharey=True)
    grid.imshow(table, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    for (i, j), value in np.ndenumerate(table):
        color = "white" if value > 70 else "black"
        grid.text(j, i, f"{value:.0f}", ha="center", va="center", color=color, fontsize=9)
    grid.set_xticks(range(table.shape[1]), [str(s) for s in found["severities"]])
    grid.set_yticks(range(len(rows)), [row["name"] for row in rows])
    grid.set(xlabel="severity", title="accuracy (%)")
    grid.tick_params(length=0)
    grid.spines[:].set_visible(False)
    means = [row["top1"] for row in rows]
    bars.barh(range(len(rows)), means, color=BLUE, alpha=0.75)
    for i, row in enumerate(rows):
        change = 0.0 - round(row["drop"], 1)  # no -0.0
        bars.text(1, i, f"{row['top1']:.1f}  ({change:+.1f})", va="center", fontsize=8)
    bars.axvline(found["clean"], color="black", linewidth=1.2)
    bars.axvline(found["top1"], color=GREY, linestyle="--", linewidth=1.2)
    bars.set(xlim=(0, 100), xlabel="mean over the severities (%)")
    title = f"solid: clean {found['clean']:.1f}; dashed: mean {found['top1']:.1f}"
    bars.set_title(title, fontsize=10)
    bars.tick_params(axis="y", length=0)
    bars.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{found['dataset']}, {found['split']}: {found['n']:,} images, corrupted; "
        f"a drop of {found['drop']:.1f} percentage points",
        parse_math=False,
    )
    return figure
