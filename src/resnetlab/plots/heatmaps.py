"""Where a network sees what it predicts, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from resnetlab.arguments import check_types
from resnetlab.evaluation.explanation import Explanation, load_and_explain
from resnetlab.inference.exported import Exported
from resnetlab.models.architecture import Architecture
from resnetlab.plots.images import pixels_of
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    Figure,
    check_format,
    new_figure,
    own_style,
    shorten,
    shorten_all,
    write_figure,
)
from resnetlab.weights.checkpoint import Checkpoint

_MOST = 24
"""Images in one figure."""


@own_style()
def figure_heatmaps(found: Sequence[Explanation], *, note: str | None = None) -> Figure:
    """A row an image: the image, and for each class a map over it, from none to most of its own.

    ``note`` stands below; of more than 24 images the first are drawn.
    """
    found = found[:_MOST]
    columns = 1 + max(len(one.top) for one in found)
    figure = new_figure(max(2.1 * columns, 4.6), 2.25 * len(found) + 0.9, between_rows=0.08)
    cells = figure.subplots(len(found), columns, squeeze=False)
    names = [*{name: None for one in found for name, _ in one.top}]
    short = dict(zip(names, shorten_all(names, 14), strict=True))
    for one, row in zip(found, cells, strict=True):
        size = one.pixels.shape[-1]
        smooth = {"interpolation": "nearest" if size <= 64 else "antialiased"}
        pixels = pixels_of(one.pixels[None])[0]
        row[0].imshow(pixels, **smooth)
        row[0].set_title(shorten(one.title, 20), fontsize=9, parse_math=False)
        for axes, (name, percent), heat in zip(row[1:], one.top, one.maps, strict=False):
            grid = F.interpolate(heat[None, None], size=(size, size), mode="bilinear")[0, 0]
            axes.imshow(pixels_of(one.pixels[None]).mean(-1)[0], cmap="gray", vmin=0, vmax=255)
            most = max(float(grid.max()), 1e-12)
            axes.imshow(grid.numpy() / most, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
            title = f"{short[name]} {percent:.1f} %"
            axes.set_title(title, fontsize=9, parse_math=False)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        for axes in row[1 + len(one.top) :]:
            axes.remove()
    figure.suptitle(f"What speaks for each class (Grad-CAM, {found[0].stage})", fontsize=11)
    words = "bright: most, dark: nothing; each map on a scale of its own"
    figure.supxlabel(f"{words}\n{note}" if note else words, fontsize=8)
    return figure


@check_types
def explain(
    run: str | Path | Checkpoint | Exported,
    images: str | Path | Sequence[str | Path],
    *,
    classes: Sequence[str] = (),
    top: int = 3,
    stage: str | None = None,
    out: str | Path = "explanation.png",
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
) -> Picture:
    """Draw where in images a network sees its likeliest classes, by Grad-CAM.

    Args:
        run: A run folder, a Checkpoint, or another source of ``load_checkpoint``.
        images: A file, a folder, or several.
        classes: Names of classes to look for, instead of the likeliest.
        top: How many of the likeliest.
        stage: Whose feature maps to take, such as layer3; by default the last that has places.
        out: File to draw to.
        model, model_overrides: What a foreign file does not tell; see ``load_network``.

    Returns:
        The file, which a notebook shows.

    Raises:
        UserError: There is no such network, image, class or stage, or it is an exported file.
    """
    out = check_format(out)
    found, note = load_and_explain(
        run,
        [images] if isinstance(images, str | Path) else images,
        classes=classes,
        top=top,
        stage=stage,
        model=model,
        model_overrides=model_overrides,
    )
    return write_figure(figure_heatmaps(found, note=note), out)
