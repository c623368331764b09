"""The figure of a study: errors over epochs, or of the finished networks; seeds as a spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from resnetlab.plots.style import (
    BLUE,
    GREY,
    Axes,
    Figure,
    MaxNLocator,
    new_figure,
    own_style,
    style_curves,
)
from resnetlab.study.summary import Row, Spread
from resnetlab.study.table import Study

LIGHT_TO_DARK = ("#E8743B", "#CC4778", "#9512A1", "#5601A4", "#0D0887")
"""Of matplotlib's plasma: in order for colour-blind people and in grey as well."""


@own_style()
def figure_study(study: Study, rows: Sequence[Row]) -> Figure:
    """The figure that the study asks for; ``rows`` are of ``summarize_runs`` and not empty."""
    figure = new_figure(11, 4.8)
    epochs, n = rows[0].epochs[-1], sorted({row.n for row in rows})
    seeds = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    recipe = f"{study.recipe.name}, {study.recipe.model}"
    if len(study.variants) > 1 and any("model" in v.changes for v in study.variants):
        recipe = study.recipe.name
    length = "1 epoch" if epochs == 1 else f"{epochs:,} epochs"
    if study.figure == "images":
        length = "equally many steps"
    name = study.name.capitalize().replace("-", " ", 1)
    title = f"{name}: {recipe} on {study.recipe.dataset}, {length}"
    many = "1 seed" if seeds == "1" else f"mean ± standard deviation of {seeds} seeds"
    figure.suptitle(f"{title}; {many}", fontsize=11)
    _DRAW[study.figure](figure, rows)
    return figure


def _degradation(figure: Figure, rows: Sequence[Row]) -> None:
    """Plain networks left, residual ones right; training error dashed, validation error solid."""
    panels = figure.subplots(1, 2, sharey=True)
    kinds = [row.architecture.shortcut == "none" for row in rows]
    depths = sorted({row.architecture.num_layers for row in rows})
    colors = dict(zip(depths, _graded(len(depths)), strict=True))
    for axes, plain, title in zip(panels, (True, False), ("plain", "residual"), strict=True):
        ends = []
        for row in (row for row, kind in zip(rows, kinds, strict=True) if kind is plain):
            color = colors[row.architecture.num_layers]
            _draw_curve(axes, row, "train", color=color, linestyle=(0, (4, 2)), linewidth=1.2)
            _draw_curve(axes, row, "val", color=color, linewidth=2)
            ends.append((row.last("val").mean, f"{row.architecture.num_layers} layers", color))
        axes.set(title=f"{title} networks", xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        style_curves(axes)
        _label_ends(axes, ends)
    panels[0].set_ylabel("error (%)")
    for label, style in (("training", (0, (4, 2))), ("validation", "-")):
        panels[0].plot([], [], color=GREY, linestyle=style, label=f"{label} error")
    panels[0].legend(frameon=False, loc="upper right")


def _graded(n: int) -> list[str]:
    """So many colours (up to five differ), from light to dark."""
    return [LIGHT_TO_DARK[round(x)] for x in np.linspace(0, len(LIGHT_TO_DARK) - 1, n)]


def _draw_curve(axes: Axes, row: Row, split: str, *, band: bool = True, **style) -> None:
    """The mean over seeds, and around it the deviation."""
    curves = row.curves(split)
    mean = curves.mean(0)
    marker = "o" if len(mean) <= 20 else ""
    axes.plot(row.epochs, mean, marker=marker, markersize=3, **style)
    if band and row.n > 1:
        around = curves.std(0, ddof=1)
        shade = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
        axes.fill_between(row.epochs, mean - around, mean + around, **shade)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, object]]) -> None:
    """A text right of each curve's end, apart from each other."""
    low, high = axes.get_ylim()
    gap = (high - low) / 18
    known = sorted(end for end in ends if not math.isnan(end[0]))
    places: list[float] = []
    for value, _, _ in known:
        places.append(max(value, places[-1] + gap) if places else value)
    # Pushed up they would drift off their curves: the whole block moves back by half of that.
    drift = [place - value for place, (value, _, _) in zip(places, known, strict=True)]
    shift = min(float(np.mean(drift)), places[0] - low - gap / 2) if known else 0.0
    right = axes.get_xlim()[1]
    for place, (value, text, color) in zip(places, known, strict=True):
        beside = {"xytext": (right, place - shift), "textcoords": "data", "va": "center"}
        axes.annotate(
            text, (right, value), color=color, fontsize=9, annotation_clip=False, **beside
        )


def _comparison(figure: Figure, rows: Sequence[Row]) -> None:
    """Validation error over the epochs, and the test error of each finished network."""
    curves, points = figure.subplots(1, 2, width_ratios=(3, 2))
    colors = _graded(len(rows)) if len(rows) > 1 else [BLUE]
    for row, color in zip(rows, colors, strict=True):
        _draw_curve(curves, row, "val", color=color, linewidth=2, label=row.name)
    curves.set(xlabel="epoch", ylabel="validation error (%)")
    curves.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    style_curves(curves)
    if len(rows) > 1:
        curves.legend(frameon=False)
    for place, (row, color) in enumerate(zip(rows, colors, strict=True)):
        _draw_points(points, row.test, place, color)
    points.set(xlabel="test error (%)", ylim=(len(rows) - 0.5, -0.5))
    style_curves(points)
    points.set_yticks(range(len(rows)), [f"{row.name}\n{row.test} %" for row in rows])


def _draw_points(axes: Axes, spread: Spread, place: float, color: object) -> None:
    """Each run as a ring, their mean as a line with the deviation on both sides."""
    axes.plot(spread.values, [place] * len(spread.values), "o", mfc="none", color=color)
    around = None if math.isnan(spread.deviation) else spread.deviation
    style = {"fmt": "|", "color": color, "markersize": 22, "capsize": 4, "elinewidth": 2}
    axes.errorbar(spread.mean, place, xerr=around, **style)


def _depth(figure: Figure, rows: Sequence[Row]) -> None:
    """The test error against layers, parameters and minutes."""
    panels = figure.subplots(1, 3, sharey=True)
    tests = [row.test for row in rows]
    for axes, values, label in zip(
        panels,
        (
            [row.architecture.num_layers for row in rows],
            [row.parameters / 1e6 for row in rows],
            [row.minutes.mean for row in rows],
        ),
        ("layers", "parameters (millions)", "minutes of training"),
        strict=True,
    ):
        _draw_means(axes, values, tests, color=BLUE)
        axes.set_xlabel(label)
        style_curves(axes)
        _logarithmic(axes, values)
        for value, row in zip(values, rows, strict=True):
            place = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 8}
            axes.annotate(row.name, (value, row.test.mean), color=GREY, **place)
    panels[0].set_ylabel("test error (%)")


def _images(figure: Figure, rows: Sequence[Row]) -> None:
    """Accuracy against the number of training images."""
    axes = figure.subplots()
    sizes = [row.train_size or 0 for row in rows]
    for spreads, color, label in (
        ([_complement(row.last("train")) for row in rows], GREY, "training accuracy"),
        ([_complement(row.test) for row in rows], BLUE, "test accuracy"),
    ):
        _draw_means(axes, sizes, spreads, color=color, label=label)
    axes.set(xlabel="training images", ylabel="accuracy (%)")
    style_curves(axes)
    _logarithmic(axes, sizes)
    axes.legend(frameon=False)


def _complement(errors: Spread) -> Spread:
    return Spread(tuple(100 - value for value in errors.values))


def _draw_means(axes: Axes, x: Sequence[float], spreads: Sequence[Spread], **style) -> None:
    around = [0 if math.isnan(spread.deviation) else spread.deviation for spread in spreads]
    means = [spread.mean for spread in spreads]
    axes.errorbar(x, means, yerr=around, marker="o", capsize=4, linewidth=1.6, **style)


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with ticks at the values themselves, written in full."""
    axes.set_xscale("log")
    axes.minorticks_off()
    texts = [f"{value:,.0f}" if value >= 10 else f"{value:.2f}" for value in sorted(values)]
    axes.set_xticks(sorted(values), texts, rotation=45)


_DRAW: dict[str, Callable[[Figure, Sequence[Row]], None]] = {
    "degradation": _degradation,
    "comparison": _comparison,
    "depth": _depth,
    "images": _images,
}
