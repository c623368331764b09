"""The one style of all figures, and the one writer of their files.

matplotlib's Figure alone and not pyplot, so no global state is touched; all that is taken from
matplotlib is imported here. Colours are Okabe and
Ito's, which colour-blind people can tell apart; what a colour says, a mark or a word says too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import takewhile
from pathlib import Path

from rich.cells import cell_len

from resnetlab.console import visible, waiting
from resnetlab.environment import matplotlib_importable
from resnetlab.errors import UserError
from resnetlab.files import atomic_write, user_path
from resnetlab.plots.picture import Picture

with matplotlib_importable():
    from matplotlib import style
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findSystemFonts, fontManager
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
    from matplotlib.ticker import MaxNLocator

__all__ = ["Axes", "Circle", "FancyArrowPatch", "FancyBboxPatch", "Figure"]
__all__ += ["MaxNLocator", "PowerNorm"]

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Of several things side by side; where there are more, the dashes of their lines differ."""
DASHES = ("-", "--", "-.", ":")
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
)
FONTS += ("WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei", "SimHei", "Arial Unicode MS")
"""The first comes with matplotlib and has the marks ✓ and ✗; the others, as far as they are
installed, have Chinese characters."""
FONT_FILES = ("NotoSansCJK-Regular", "SourceHanSans", "wqy-zenhei", "wqy-microhei")
DPI = 120


@cache
def installed_fonts() -> list[str]:
    """Those of ``FONTS`` that are here.

    matplotlib lists a system's fonts once and for all; ones that were installed later are added.
    """
    known = {font.name for font in fontManager.ttflist}
    if known.isdisjoint(FONTS[1:]):
        for path in findSystemFonts():
            if Path(path).name.startswith(FONT_FILES):
                fontManager.addfont(path)
        known = {font.name for font in fontManager.ttflist}
    return [name for name in FONTS if name in known]


@contextmanager
def own_style() -> Iterator[None]:
    """Draw in the style of this project, whatever the user has set for other figures."""
    fonts = {"font.family": installed_fonts()}
    with style.context(["default", fonts]), warnings.catch_warnings():
        # Of a character that no font has, a box is shown.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def new_figure(width: float, height: float, *, between_rows: float = 0.02) -> Figure:
    """Inches; ``between_rows`` as a share of the height of one of them."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06, hspace=between_rows)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def style_curves(axes: Axes) -> None:
    """Axes of curves: a faint grid, no frame above and on the right, numbers written in full."""
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(axes: Axes) -> None:
    """The legend of the axes' labelled lines, below the axes, where it cannot lie over data."""
    if axes.get_legend_handles_labels()[0]:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "frameon": False}
        axes.legend(ncols=2, **below)


def shorten(name: str, length: int) -> str:
    """A name in the room of so many usual letters: its beginning and its end."""
    name = visible(name)
    if _width(name) <= length:
        return name
    end = len(name)
    while _width(name[-end:]) > length // 3:
        end -= 1
    return f"{_start(name, length - 1 - length // 3)}…{name[len(name) - end :].lstrip()}"


def shorten_all(names: Sequence[str], length: int) -> list[str]:
    """``shorten`` of each; names that would read the same show the words in which they differ."""
    short = [shorten(name, length) for name in names]
    for text in {text for text in short if short.count(text) > 1}:
        alike = [i for i, other in enumerate(short) if other == text]
        first, last = min(names[i] for i in alike), max(names[i] for i in alike)
        if first == last:
            continue
        same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
        shared = "".join(letter for letter, _ in same)
        cut = max(map(shared.rfind, " _-/")) + 1
        start = _start(visible(shared[:cut]), length // 3)
        for i in alike:
            short[i] = f"{start}…{shorten(names[i][cut:], length - 1 - length // 3)}"
    return short


def _start(text: str, room: float) -> str:
    while _width(text) > room:
        text = text[:-1]
    return text.rstrip()


def _width(text: str) -> float:
    """In usual letters: Chinese characters count two."""
    return sum(cell_len(char) + (char in "mwMW@%") / 2 for char in text)


def check_format(out: str | Path, parameter: str = "out") -> Path:
    """The path to draw to; UserError, naming the parameter, for another kind of file."""
    path = user_path(out)
    if path.suffix.lower().removeprefix(".") not in FigureCanvasBase.get_supported_filetypes():
        raise UserError(f"`{parameter}` {path}: name a file that ends in .png, .svg or .pdf.")
    return path


@own_style()
def write_figure(figure: Figure, out: str | Path) -> Picture:
    """Save atomically in the format of the suffix; UserError if matplotlib cannot write it."""
    path = check_format(out)
    with waiting(f"drawing {path}"), atomic_write(path) as temporary:
        figure.savefig(temporary)
    return Picture(path)
