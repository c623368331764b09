"""A contact sheet: of each finding a row of the images that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from resnetlab.data.encoded import Samples
from resnetlab.data.findings import Finding
from resnetlab.data.images import read_image
from resnetlab.errors import UserError
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import new_figure, own_style, shorten, write_figure
from resnetlab.preprocessing import Preprocessing

_SIDE, _COLUMNS = 96, 8
_HOW = Preprocessing(
    mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0), size=_SIDE, crop="letterbox", interpolation="box"
)


@own_style()
def plot_findings(
    findings: Sequence[Finding], samples: Samples, out: str | Path, *, title: str
) -> Picture | None:
    """Draw the first eight images of each finding, whole, with their names; None: there are none.

    An image that cannot be read is an empty square.
    """
    shown = [finding for finding in findings if finding.images]
    if not shown:
        return None
    figure = new_figure(1.35 * _COLUMNS, 1.75 * len(shown) + 0.6, between_rows=0.12)
    figure.suptitle(title, parse_math=False)
    grid = figure.subplots(len(shown), _COLUMNS, squeeze=False)
    for row, finding in zip(grid, shown, strict=True):
        for axes, index in zip(row, finding.images, strict=False):
            axes.imshow(_pixels(samples, index), interpolation="nearest")
            path = samples.path_of(index)
            axes.set_xlabel(shorten(path.rpartition("/")[2], 16), fontsize=7, parse_math=False)
        for axes in row[len(finding.images) :]:
            axes.spines[:].set_visible(False)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
        count = f" ({len(finding.images):,} images)" if len(finding.images) > _COLUMNS else ""
        row[0].set_title(f"{finding.kind}{count}", loc="left", fontsize=10, parse_math=False)
    return write_figure(figure, out)


def _pixels(samples: Samples, index: int) -> np.ndarray:
    """uint8 (side, side, 3)"""
    try:
        image = read_image(samples.read(index), _HOW, name=samples.path_of(index))
    except UserError:
        image = torch.full((3, _SIDE, _SIDE), 225, dtype=torch.uint8)
    return image.permute(1, 2, 0).numpy()
