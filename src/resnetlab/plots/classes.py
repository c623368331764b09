"""How good a network is at each class, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnetlab.plots.style import BLUE, GREY, ORANGE, Figure, new_figure, own_style, shorten_all

_MOST = 100
"""Classes that have a bar; of more, the worst are drawn."""


@own_style()
def figure_classes(
    rows: Sequence[Mapping[str, Any]], *, title: str = "", order: str = "worst first"
) -> Figure:
    """The share of each class's images that is recognised, with its 95 % interval.

    rows: those of ``Evaluation.per_class``, or of evaluation.json. ``order`` "as given" keeps
    theirs. Of more than 100 classes the worst are drawn.
    """
    known = [row for row in rows if row["n"]]
    if order == "worst first" or len(known) > _MOST:
        known = sorted(known, key=lambda row: row["recall"])
    drawn = known[:_MOST]
    c = len(drawn)
    height = 0.3 if c <= 30 else 0.17
    figure = new_figure(8, max(height * c, 0.8) + 1.3)
    axes = figure.subplots()
    recall = np.array([row["recall"] for row in drawn])
    intervals = np.array([row["recall_interval"] for row in drawn]).reshape(-1, 2).T
    errors = np.abs(intervals - recall)
    style = {"ecolor": "black", "error_kw": {"elinewidth": 0.9, "capsize": 2 if c <= 30 else 1}}
    axes.barh(range(c), recall, xerr=errors, color=BLUE, alpha=0.75, **style)
    shown = shorten_all([row["class"] for row in drawn], 28)
    names = [f"{name} ({row['n']:,})" for name, row in zip(shown, drawn, strict=True)]
    axes.set_yticks(range(c), names, fontsize=9 if c <= 30 else 7, parse_math=False)
    axes.set(xlim=(0, 100), ylim=(c - 0.4, -0.6), xlabel="images recognised (%), 95 % interval")
    mean = sum(row["recall"] for row in known) / max(len(known), 1)
    axes.axvline(mean, color=ORANGE, linestyle="--", linewidth=1.2)
    some = f"the {c} worst of {len(known):,} classes" if c < len(known) else f"{c} classes"
    some += f", mean {mean:.1f} % (dashed)"
    axes.set_title(f"{title}: {some}" if title else some, pad=8, parse_math=False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor="black", color=GREY)
    return figure
