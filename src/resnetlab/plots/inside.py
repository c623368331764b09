"""What a network has inside: its first filters, and how strongly its layers respond."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import dataset_of
from resnetlab.evaluation.responses import Response, first_filters, layer_responses
from resnetlab.inference.network import load_layers
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    COLOURS,
    DASHES,
    Figure,
    MaxNLocator,
    check_format,
    new_figure,
    own_style,
    shorten,
    style_curves,
    write_figure,
)
from resnetlab.weights.checkpoint import Checkpoint

Shown = Literal["filters", "responses"]


@own_style()
def figure_filters(weights: Tensor, *, title: str = "") -> Figure:
    """The first layer's filters, each on a scale of its own: (filters, channels, h, w).

    Of 3 channels in colour, else the mean of the channels in grey; of more than 256 the first.
    """
    weights = weights[:256].float()
    n = len(weights)
    columns = min(n, math.ceil(math.sqrt(1.6 * n)))
    rows = math.ceil(n / columns)
    if weights.size(1) != 3:
        weights = weights.mean(1, keepdim=True)
    low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
    pixels = ((weights - low) / (high - low).clamp(min=1e-12)).permute(0, 2, 3, 1).numpy()
    figure = new_figure(max(0.62 * columns, 4), 0.62 * rows + 0.7, between_rows=0.04)
    h, w = pixels.shape[1:3]
    cells = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(cells.flat):
        axes.set_axis_off()
        if i < n:
            axes.imshow(pixels[i].squeeze(), cmap="gray", interpolation="nearest")
    head = f"{n} filters of {h} x {w}" + ("" if weights.size(1) == 3 else ", in grey")
    figure.suptitle(f"{title}: {head}" if title else head, fontsize=10, parse_math=False)
    return figure


@own_style()
def figure_responses(found: Mapping[str, Sequence[Response]]) -> Figure:
    """The paper's figure 7: each layer's standard deviation by depth, and sorted by size.

    found: for each network, by the name to show, what ``layer_responses`` gives. Filled marks are
    the layers that end a residual branch.
    """
    figure = new_figure(10, 6.2 + 0.2 * len(found))
    by_depth, by_size = figure.subplots(2, 1)
    for i, (name, responses) in enumerate(found.items()):
        deviations = np.array([response.deviation for response in responses])
        depth = np.arange(1, len(deviations) + 1)
        ends = np.array([response.ends for response in responses])
        style = {"color": COLOURS[i % len(COLOURS)], "linewidth": 1.3}
        dash = DASHES[i // len(COLOURS) % len(DASHES)]
        by_depth.plot(depth, deviations, linestyle=dash, label=shorten(name, 60), **style)
        marks = {"color": style["color"], "s": 16, "zorder": 3}
        by_depth.scatter(depth[ends], deviations[ends], **marks)
        by_depth.scatter(depth[~ends], deviations[~ends], facecolors="white", **marks)
        by_size.plot(depth, np.sort(deviations)[::-1], linestyle=dash, **style)
    by_depth.set(title="How strongly each layer responds", xlabel="layer, by depth")
    by_size.set(xlabel="layer, the strongest first")
    for axes in (by_depth, by_size):
        axes.set(ylabel="standard deviation", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
        style_curves(axes)
    note = "filled: ends a residual branch"
    figure.legend(
        handles=by_depth.get_lines(), loc="outside lower center", ncols=2, frameon=False, title=note
    )
    return figure


@check_types
def inspect(
    networks: str | Path | Checkpoint | Sequence[str | Path],
    *,
    show: Shown = "responses",
    images: int = 500,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
) -> Picture:
    """Draw what networks have inside; see ``figure_filters`` and ``figure_responses``.

    Args:
        networks: A run folder, a Checkpoint or another source of ``load_checkpoint``, or several
            to show side by side.
        show: The first layer's filters (of one network), or the responses of all layers.
        images: Test images whose responses are looked at.
        dataset, data_dir: Whose images; by default those of the network's training.
        out: File to draw to; filters.png or responses.png unless given.

    Returns:
        The file, which a notebook shows.

    Raises:
        UserError: There is no such network or data, or several networks for filters.
    """
    out = check_format(out or f"{show}.png")
    sources = [networks] if isinstance(networks, str | Path | Checkpoint) else list(networks)
    if images < 1:
        raise UserError(f"`images` must be at least 1, not {images}.")
    if show == "filters" and len(sources) > 1:
        raise UserError("`show` filters draws one network; name one.")
    found = {}
    for source in sources:
        checkpoint = load_layers(source)
        name = checkpoint.origin if isinstance(source, Checkpoint) else Path(source).name
        if show == "filters":
            return write_figure(figure_filters(first_filters(checkpoint.build()), title=name), out)
        data = dataset_of(checkpoint, dataset=dataset, data_dir=data_dir)
        label = name if name not in found else str(source)
        found[label] = layer_responses(checkpoint.build(), data, images=images)
    return write_figure(figure_responses(found), out)
