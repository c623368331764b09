"""Loss, accuracy and learning rate of a run, or of several in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.arguments import check_types
from resnetlab.errors import UserError
from resnetlab.files import user_path
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    BLUE,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    Axes,
    Figure,
    MaxNLocator,
    legend_below,
    new_figure,
    own_style,
    shorten,
    style_curves,
    write_figure,
)
from resnetlab.runs import Run, best_epoch

Lines = Sequence[Mapping[str, Any]]
"""Those of a metrics.jsonl."""
ROOM = 60
"""Letters of a run's label."""


@check_types
def plot_curves(
    run: str | Path | Lines | Sequence[str | Path], out: str | Path | None = None
) -> Picture:
    """Draw the curves of a run (see ``figure_curves``), or of several (see ``figure_runs``).

    ``run`` is a run folder, several of them, or the lines of a metrics.jsonl, which need ``out``;
    its default is curves.png in the only folder. Returns the file; UserError if there is no epoch
    to draw.
    """
    run = [run] if isinstance(run, str | Path) else run
    folders = [Run(user_path(path)) for path in run if isinstance(path, str | Path)]
    if len(folders) > 1:
        if out is None:
            raise UserError("several runs are drawn to one file; name it: `out`.")
        return write_figure(figure_runs(folders), out)
    if folders:
        name, metrics = folders[0].path.resolve().name, folders[0].metrics
        out = out or folders[0].curves_file
    else:
        name, metrics = "", [line for line in run if isinstance(line, Mapping)]
    if out is None:
        raise UserError("metrics without a run folder need out, the file to draw to.")
    return write_figure(figure_curves(metrics, title=name), out)


@own_style()
def figure_curves(metrics: Lines, *, title: str = "") -> Figure:
    """Loss, accuracy and learning rate over the epochs, the best epoch marked.

    Values may be None, as without a validation split. UserError if there is no epoch to draw.
    """
    if not metrics:
        raise UserError(f"{title or 'the run'} has no finished epoch to draw yet.")
    figure, loss, accuracy, rate = _three(title)
    epochs = _values(metrics, "epoch")
    # A few points are shown as such: a line of one epoch would be invisible.
    style = {"marker": "o" if len(epochs) <= 30 else "", "markersize": 3.5, "linewidth": 1.6}
    for axes, key in ((loss, "loss"), (accuracy, "top1")):
        for split, color, label in (("train", GREY, "training"), ("val", BLUE, "validation")):
            values = _values(metrics, f"{split}_{key}")
            if not np.isnan(values).all():
                axes.plot(epochs, values, color=color, label=label, **style)
    _draw_rates(rate, epochs, metrics, style)
    best = metrics[best_epoch(metrics)]
    if best.get("val_top1") is not None:
        _mark_best(loss, accuracy, best)
    for axes in (loss, accuracy, rate):
        legend_below(axes)
    if len(epochs) == 1:  # points in the middle, rather than on an edge
        loss.margins(y=1)
        accuracy.margins(y=1)
    return figure


@own_style()
def figure_runs(runs: Sequence[Run]) -> Figure:
    """The curves of several runs: validation solid, training thin and dotted, a colour a run.

    They are named by what differs between their recipes. UserError if one has no epoch yet.
    """
    found = [run.metrics for run in runs]
    for run, metrics in zip(runs, found, strict=True):
        if not metrics:
            raise UserError(f"{run.path} has no finished epoch to draw yet.")
    labels = [shorten(label, ROOM) for label in run_labels(runs)]
    figure, loss, accuracy, rate = _three(f"{len(runs)} runs", labels=len(labels))
    for i, (metrics, label) in enumerate(zip(found, labels, strict=True)):
        epochs = _values(metrics, "epoch")
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)]}
        style["marker"] = "" if len(epochs) > 1 else "o"
        dash = DASHES[i // len(COLOURS) % len(DASHES)]
        for axes, key in ((loss, "loss"), (accuracy, "top1")):
            train, val = (_values(metrics, f"{split}_{key}") for split in ("train", "val"))
            axes.plot(epochs, train, linestyle=":", linewidth=1, alpha=0.8, **style)
            axes.plot(epochs, val, linestyle=dash, linewidth=1.7, **style)
        rates = _values(metrics, "lr")
        rate.plot(epochs, rates, linestyle=dash, linewidth=1.4, label=label, **style)
    rate.set(title="Learning rate", ylabel="learning rate", ylim=(0, None))
    handles = rate.get_lines()
    columns = 1 if max(map(len, labels)) > 40 else 2 if max(map(len, labels)) > 20 else 4
    note = "solid: validation; dotted: training"
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, title=note
    )
    return figure


def run_labels(runs: Sequence[Run]) -> list[str]:
    """What tells each run from the others: the fields in which their recipes differ, or its name.

    What follows from the machine (execution, folders) does not count, unless all else is equal.
    Where that would be long, the recipe's name and the fewest fields that suffice are named.
    """
    recipes = [run.recipe.to_dict() for run in runs]
    names = [run.path.resolve().name for run in runs]
    different = [
        name
        for name in recipes[0]
        if name not in ("execution", "data_dir")
        and any(recipe.get(name) != recipes[0][name] for recipe in recipes)
    ]

    def labelled(fields: Sequence[str]) -> list[str]:
        named = {name: "recipe" if name == "name" else name for name in fields}
        return [
            ", ".join(f"{word} {_word(recipe.get(name))}" for name, word in named.items())
            for recipe in recipes
        ]

    found = labelled([name for name in different if name != "name"])
    if max(map(len, found)) > ROOM:
        first = sorted(different, key=lambda name: name != "name")
        brief = (labelled(first[:n]) for n in range(1, len(first)))
        found = next((labels for labels in brief if len({*labels}) == len(labels)), found)
    if len({*found}) == len(found):
        return found
    return [f"{name}: {label}" if label else name for name, label in zip(names, found, strict=True)]


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _three(title: str, labels: int = 0) -> tuple[Figure, Axes, Axes, Axes]:
    """A figure with axes for loss, accuracy and learning rate, and room for so many labels."""
    figure = new_figure(12, 4 + 0.22 * labels)
    if title:
        figure.suptitle(title, parse_math=False)
    loss, accuracy, rate = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    loss.set(title="Loss", ylabel="cross entropy (nats)")
    accuracy.set(title="Accuracy", ylabel="top-1 accuracy (%)")
    for axes, ticks in ((loss, 10), (accuracy, 10), (rate, 6)):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
        style_curves(axes)
    return figure, loss, accuracy, rate


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
