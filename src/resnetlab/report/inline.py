"""Figures and images as parts of a page: nothing is fetched, every one has words."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from resnetlab.plots.images import pixels_of
from resnetlab.plots.style import Figure, own_style


@own_style()
def inline_svg(figure: Figure, name: str, words: str) -> Markup:
    """A figure as an <svg> element; ``name`` is unique on the page, ``words`` stand for it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    _, svg = file.getvalue().split("<svg", 1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Every figure of a page has glyphs and clips of its own.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"(\d\.\d{3})\d+", r"\1", svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r' (?:width|height)="[^"]*"', "", opening)
    label, points = Markup.escape(words), 72 * figure.get_figwidth()
    least = f"min-width:{points:.0f}px"  # letters of 7 points are legible down to 7 pixels
    return Markup(f'<svg{opening} style="{least}" role="img" aria-label="{label}">{rest}')


def inline_png(image: Tensor) -> str:
    """uint8 (1 or 3, h, w) as the address of a PNG that lies in the page itself."""
    pixels: np.ndarray = pixels_of(image[None])[0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
