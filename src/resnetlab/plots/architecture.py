"""A network drawn from its record, stage by stage, as in figure 3 of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from resnetlab.models.architecture import Architecture
from resnetlab.models.fast import SingleBlock, Transition
from resnetlab.models.summary import Layer, default_image_size, on_meta, summarize
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    GREY,
    Axes,
    Circle,
    FancyArrowPatch,
    FancyBboxPatch,
    Figure,
    new_figure,
    own_style,
    write_figure,
)

WIDTH, HEIGHT = 2.3, 0.5
"""Of a layer's box; lengths are in units of the drawing, 0.62 of which are an inch."""
BETWEEN_LAYERS, BETWEEN_BLOCKS, BETWEEN_COLUMNS = 0.28, 0.62, 1.3
INCH = 0.62
MOST_LAYERS = 18
"""Boxes in a column; of a longer stage the first blocks and the last one are drawn."""
TINTS = ("#EEEEEE", "#D6E6F4", "#FBE3CF", "#D5EFE3", "#F3DFEC", "#FFF3C9")
"""Of stem and head, and of the stages in turn."""


@dataclass(frozen=True)
class _Block:
    """Boxes one below the other, and the shortcut beside them."""

    layers: tuple[str, ...]
    shortcut: str | None = None
    """None, "solid" or "dashed" """


@dataclass(frozen=True)
class _Column:
    """A stage, the stem or the head."""

    title: str
    blocks: tuple[_Block | str, ...]
    """a text stands for blocks that are left out"""
    tint: str


@own_style()
def figure_architecture(
    architecture: Architecture, image_size: int | None = None, *, title: str = "network"
) -> Figure:
    """The stem, each stage and the head as columns of layers, with the shapes of their outputs.

    A solid shortcut is an identity; a dashed one changes the shape or projects. ``image_size`` in
    pixels; by default the paper's. UserError for an image that is too small.
    """
    size = default_image_size(architecture) if image_size is None else image_size
    layers = summarize(architecture, size)
    columns = list(_columns(architecture, layers, size))
    tall = max(_height(column) for column in columns)
    wide = len(columns) * (WIDTH + BETWEEN_COLUMNS)
    figure = new_figure(wide * INCH + 0.4, (tall + 1.1) * INCH + 1.1)
    axes = figure.subplots()
    parameters = sum(layer.parameters for layer in layers)
    products = sum(layer.multiply_adds for layer in layers)
    figure.suptitle(
        f"{title}: {architecture.num_layers} layers, {parameters:,} parameters, "
        f"{products / 1e6:,.0f} million multiply-adds at {size} x {size} pixels",
        fontsize=11,
    )
    for i, column in enumerate(columns):
        middle = i * (WIDTH + BETWEEN_COLUMNS) + WIDTH / 2
        bottom = _draw_column(axes, column, middle)
        if i + 1 < len(columns):
            _draw_way(axes, middle, bottom)
    axes.set(xlim=(-0.2, wide - BETWEEN_COLUMNS + 0.7), ylim=(-tall - 0.15, 1.0), aspect="equal")
    axes.axis("off")
    figure.supxlabel(_legend(architecture), fontsize=9)
    return figure


def plot_architecture(
    architecture: Architecture,
    out: str | Path,
    *,
    image_size: int | None = None,
    title: str = "network",
) -> Picture:
    """Draw ``figure_architecture`` to a file, which is returned."""
    return write_figure(figure_architecture(architecture, image_size, title=title), out)


def _columns(architecture: Architecture, layers: list[Layer], size: int) -> Iterator[_Column]:
    model = on_meta(architecture)
    shapes = {layer.name: layer.output for layer in layers}
    stem: list[str] = []
    head: list[str] = []
    names = [name for name, _ in model.named_children()]
    first = names.index(model.stage_names[0])
    for i, (name, child) in enumerate(model.named_children()):
        if name not in model.stage_names:
            (stem if i < first else head).extend(_words(child))
    before = shapes[names[first - 1]]
    image = f"image, {architecture.in_channels} x {size} x {size}"
    yield _Column(
        f"stem\n{_shape(before)}", tuple(_Block((text,)) for text in [image, *stem]), TINTS[0]
    )
    for i, name in enumerate(model.stage_names):
        blocks = [_block(block) for block in model.get_submodule(name).children()]
        tint = TINTS[1 + i % (len(TINTS) - 1)]
        yield _Column(f"stage {i + 1}\n{_shape(shapes[name])}", tuple(_fitting(blocks)), tint)
    classes = f"{architecture.num_classes:,} classes"
    yield _Column(f"head\n{classes}", tuple(_Block((text,)) for text in head), TINTS[0])


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{channels} x {height} x {width}"


def _words(module: nn.Module) -> Iterator[str]:
    """The boxes of a layer outside the stages; norms and activations have none, as in the paper."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            yield from _words(layer)
    elif isinstance(module, nn.Conv2d):
        yield _convolution(module)
    elif isinstance(module, nn.MaxPool2d):
        yield f"{module.kernel_size}x{module.kernel_size} max pool, /{module.stride}"
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        yield "average pool"
    elif isinstance(module, nn.AdaptiveMaxPool2d):
        yield "max pool"
    elif isinstance(module, nn.Linear):
        yield f"fc {module.out_features:,}"


def _convolution(module: nn.Conv2d) -> str:
    side, stride = module.kernel_size[0], module.stride[0]
    text = f"{side}x{side} conv, {module.out_channels}"
    text += f", /{stride}" if stride > 1 else ""
    return f"{text}, {module.groups} groups" if module.groups > 1 else text


def _block(block: nn.Module) -> _Block:
    children = dict(block.named_children())
    shortcut = children.pop("downsample", None)
    texts = tuple(text for child in children.values() for text in _words(child))
    if isinstance(block, Transition):
        return _Block(texts)
    if isinstance(shortcut, nn.Identity) or isinstance(block, SingleBlock):
        return _Block(texts, "solid")
    return _Block(texts, None if shortcut is None else "dashed")


def _fitting(blocks: list[_Block]) -> Iterator[_Block | str]:
    """All blocks, or where they are too many the first ones and the last."""
    each = max(len(block.layers) for block in blocks)
    room = max(MOST_LAYERS // each, 2)
    if len(blocks) <= room:
        yield from blocks
        return
    yield from blocks[: room - 2]
    yield f"{len(blocks) - room + 1:,} more\nblocks like this"
    yield blocks[-1]


def _height(column: _Column) -> float:
    return sum(_block_height(block) + BETWEEN_BLOCKS for block in column.blocks)


def _block_height(block: _Block | str) -> float:
    if isinstance(block, str):
        return 2 * HEIGHT
    return len(block.layers) * (HEIGHT + BETWEEN_LAYERS) - BETWEEN_LAYERS


def _draw_column(axes: Axes, column: _Column, middle: float) -> float:
    """From y = 0 downwards; returns where its last box ends."""
    axes.text(middle, 0.85, column.title, ha="center", va="top", fontsize=9, linespacing=1.3)
    y = -0.25
    for i, block in enumerate(column.blocks):
        top = y
        if i:
            _draw_arrow(axes, middle, y + BETWEEN_BLOCKS, y)
        if isinstance(block, str):
            axes.text(middle, y - HEIGHT, block, ha="center", va="center", fontsize=8.5, color=GREY)
            y -= 2 * HEIGHT
        else:
            for j, text in enumerate(block.layers):
                if j:
                    _draw_arrow(axes, middle, y + BETWEEN_LAYERS, y)
                box = (middle - WIDTH / 2, y - HEIGHT)
                style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.12"}
                style["edgecolor"] = GREY
                axes.add_patch(FancyBboxPatch(box, WIDTH, HEIGHT, facecolor=column.tint, **style))
                axes.text(middle, y - HEIGHT / 2, text, ha="center", va="center", fontsize=7.5)
                y -= HEIGHT + BETWEEN_LAYERS
            y += BETWEEN_LAYERS
            if block.shortcut:
                _draw_shortcut(axes, middle, top, y, block.shortcut)
        y -= BETWEEN_BLOCKS
    return y + BETWEEN_BLOCKS


def _draw_arrow(axes: Axes, x: float, top: float, bottom: float) -> None:
    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 7, "linewidth": 0.8}
    style["color"] = "black"
    axes.add_patch(FancyArrowPatch((x, top), (x, bottom), shrinkA=0, shrinkB=0, **style))


def _draw_shortcut(axes: Axes, x: float, top: float, bottom: float, kind: str) -> None:
    """From the line above the block, around it, to the addition below."""
    start, end = (x, top + BETWEEN_BLOCKS * 0.6), (x, bottom - BETWEEN_BLOCKS * 0.3)
    radius = 0.1
    axes.plot([x, x], [bottom, end[1] + radius], color="black", linewidth=0.8)
    side = x + WIDTH / 2 + 0.32
    line = {"color": "black", "linewidth": 1.1, "linestyle": "--" if kind == "dashed" else "-"}
    (curve,) = axes.plot(
        [start[0], side - 0.15, side, side, side - 0.15, x + radius],
        [start[1], start[1], start[1] - 0.15, end[1] + 0.15, end[1], end[1]],
        solid_joinstyle="round",
        **line,
    )
    curve.set_gid(f"shortcut-{kind}-{len(axes.lines)}")
    axes.add_patch(
        Circle(end, radius, facecolor="white", edgecolor="black", linewidth=0.8, zorder=3)
    )
    plus = {"color": "black", "linewidth": 0.8, "zorder": 4}
    axes.plot([x - 0.06, x + 0.06], [end[1]] * 2, **plus)
    axes.plot([x] * 2, [end[1] - 0.06, end[1] + 0.06], **plus)


def _draw_way(axes: Axes, x: float, bottom: float) -> None:
    """From the end of a column to the beginning of the next."""
    side = x + WIDTH / 2 + 0.62
    following = x + WIDTH + BETWEEN_COLUMNS
    end = bottom - BETWEEN_BLOCKS * 0.75
    line = {"color": "black", "linewidth": 0.8}
    axes.plot([x, x, side, side, following], [bottom, end, end, 0.2, 0.2], **line)
    _draw_arrow(axes, following, 0.2, -0.25)


def _legend(architecture: Architecture) -> str:
    """What solid and dashed are, and where norms and activations stand."""
    order = "after each convolution come batch norm and ReLU, the last ReLU after the addition"
    if architecture.activation == "pre":
        order = "batch norm and ReLU come before each convolution"
    if architecture.shortcut == "none":
        return f"a plain network, without shortcuts; {order}"
    dashed = {
        "A": "zero-padded, with the stride (A)",
        "B": "a 1x1 projection (B)",
        "C": "a 1x1 projection (C)",
        "D": "average pooling and a 1x1 projection (D)",
    }[architecture.shortcut]
    if architecture.transition == "pool":
        return f"solid shortcuts: identity; {order}"
    return f"solid shortcuts: identity; dashed: {dashed}; {order}"
