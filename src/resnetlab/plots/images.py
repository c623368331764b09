"""Grids of images: what a data set holds, and what a network made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.compute.execution import Execution
from resnetlab.data.dataset import Dataset, Subset
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import (
    REPRODUCIBLE,
    backend_for,
    dataset_of,
    progress_batches,
)
from resnetlab.files import is_address, user_path
from resnetlab.inference.backends import Backend
from resnetlab.inference.exported import Exported
from resnetlab.inference.network import load_network
from resnetlab.inference.prepare import inference_execution
from resnetlab.models.architecture import Architecture
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import (
    BLUE,
    ORANGE,
    Axes,
    Figure,
    check_format,
    new_figure,
    own_style,
    shorten_all,
    write_figure,
)
from resnetlab.runs import Run
from resnetlab.seeding import seeded_generator
from resnetlab.weights.checkpoint import Checkpoint

Only = Literal["all", "right", "wrong"]
Order = Literal["random", "confident"]


@check_types
def plot_samples(dataset: Dataset, out: str | Path, **options: Any) -> Picture:
    """Draw ``figure_samples``, whose options it takes, to a file, which is returned."""
    return write_figure(figure_samples(dataset, **options), out)


@torch_defaults()
@own_style()
def figure_samples(
    dataset: Dataset, *, per_class: int = 8, max_classes: int = 100, seed: int = 0
) -> Figure:
    """A row of random images for each class, its name before them.

    More than 25 classes stand in several columns, of more than ``max_classes`` the first are
    shown. UserError for a ``per_class`` below 1.
    """
    if per_class < 1:
        raise UserError(f"`per_class` must be at least 1, not {per_class}.")
    classes = dataset.classes[:max_classes]
    shown = shorten_all(classes, 18)
    columns = math.ceil(len(classes) / 25)
    rows = math.ceil(len(classes) / columns)
    order = torch.randperm(len(dataset), generator=seeded_generator(seed, "samples"))
    labels = dataset.labels[order]
    strips = [
        _strip(dataset.batch(order[labels == i][:per_class])[0], per_class)
        for i in range(len(classes))
    ]
    height, width = strips[0].shape[:2]
    inches = (0.8 if columns == 1 else 0.4) / dataset.preprocessing.size  # of a pixel
    figure = new_figure(max(columns * (width * inches + 1.4), 6), rows * height * inches + 0.7)
    some = f"{len(classes)} of " if len(classes) < len(dataset.classes) else ""
    figure.suptitle(
        f"{dataset.name}, {dataset.split}: {len(dataset):,} images, "
        f"{some}{len(dataset.classes)} classes"
    )
    for column, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        names = shown[column * rows : (column + 1) * rows]
        mosaic = np.full((rows * height, width, 3), 255, np.uint8)
        for row in range(len(names)):
            mosaic[row * height : (row + 1) * height] = strips[column * rows + row]
        _show(axes, mosaic, dataset.preprocessing.size)
        centres = [(row + 0.5) * height for row in range(len(names))]
        axes.set_yticks(centres, names, parse_math=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def _strip(images: Tensor, length: int) -> np.ndarray:
    """uint8 (n, c, h, w) side by side on white, room for ``length``: (h + gap, ..., 3)."""
    h, w = images.shape[-2:]
    gap = max(1, h // 16)
    strip = np.full((h + gap, length * (w + gap), 3), 255, np.uint8)
    for i, image in enumerate(pixels_of(images)):
        strip[:h, i * (w + gap) : i * (w + gap) + w] = image
    return strip


def pixels_of(images: Tensor) -> np.ndarray:
    """uint8 (n, 1 or 3, h, w) -> (n, h, w, 3)."""
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()


def plot_predictions(
    images: Tensor,
    labels: Tensor,
    logits: Tensor,
    classes: Sequence[str],
    out: str | Path,
    *,
    title: str = "",
) -> Picture:
    """Draw ``figure_predictions`` to a file, which is returned."""
    return write_figure(figure_predictions(images, labels, logits, classes, title=title), out)


@own_style()
def figure_predictions(
    images: Tensor, labels: Tensor, logits: Tensor, classes: Sequence[str], *, title: str = ""
) -> Figure:
    """A grid of images: above each the prediction, blue and ✓ if right, orange and ✗ if wrong.

    Below each stands its true class. images uint8 (n, c, h, w), labels int64 (n,), logits
    (n, classes), divided by the temperature.
    """
    n = len(images)
    columns = min(n, math.ceil(math.sqrt(1.5 * n)))
    rows = math.ceil(n / columns)
    # Room between rows: a true class must not be taken for the title of the image below.
    figure = new_figure(max(1.5 * columns, 4.5), 1.8 * rows + 0.4, between_rows=0.1)
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).tolist()
    tallies = ((sum(right), "✓ right"), (n - sum(right), "✗ wrong"))
    counts = ", ".join(f"{count} {word}" for count, word in tallies if count)
    figure.suptitle(f"{title}: {counts}" if title else counts, parse_math=False)
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    predictions, targets = shorten_all(classes, 11), shorten_all(classes, 14)
    for axes in cells[n:]:
        axes.remove()
    for i, (axes, pixels) in enumerate(zip(cells, pixels_of(images), strict=False)):
        color, mark = (BLUE, "✓") if right[i] else (ORANGE, "✗")
        text = {"fontsize": 9, "parse_math": False}
        head = f"{mark} {predictions[int(predicted[i])]} {100 * confidence[i]:.0f} %"
        axes.set_title(head, color=color, pad=4, **text)
        axes.set_xlabel(f"true: {targets[int(labels[i])]}", labelpad=3, **text)
        _show(axes, pixels, size=images.shape[-1])
        axes.set_yticks([])
        axes.spines[:].set(color=color, linewidth=2)
    return figure


@check_types
@torch_defaults()
def visualize(
    run: str | Path | Checkpoint | Exported,
    *,
    n: int = 24,
    only: Only = "all",
    order: Order = "random",
    split: Literal["test", "val"] = "test",
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    split_file: str | Path | None = None,
    seed: int = 0,
    execution: Execution | str = REPRODUCIBLE,
    dataset: str | None = None,
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: str | Path | Sequence[str] | None = None,
) -> Picture:
    """Draw images of a data set with a network's predictions, those that ``evaluate`` counts.

    Args:
        run: What ``evaluate`` takes.
        n: Number of images.
        only: Those that the network has right or wrong.
        order: "random", which ``seed`` fixes, or the most "confident" predictions first: of the
            wrong ones, the worst mistakes.
        split: The images to take.
        out: File to draw to; predictions.png in the run folder, or else beside the file of
            weights or in the current folder.
        data_dir: Folder that already holds the data set.
        split_file: Which of your own images is for what, where it is not the run's split.csv.
        seed: Of the order.
        execution: How to compute; in fp32 by default, see ``REPRODUCIBLE``.
        dataset: Name of a data set; by default that of the network's training.
        model, model_overrides, mean, std, classes: What a foreign file does not tell; see
            ``load_network``.

    Returns:
        The file, which a notebook shows.

    Raises:
        UserError: What ``evaluate`` refuses, an n below 1, or nothing to draw.
    """
    if n < 1:
        raise UserError(f"`n` must be at least 1, not {n}.")
    execution = inference_execution(execution)  # a wrong word is said before anything is loaded
    out = check_format(out or beside(run))
    checkpoint = load_network(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    data = dataset_of(checkpoint, split, dataset=dataset, data_dir=data_dir, split_file=split_file)
    shuffle = torch.randperm(len(data), generator=seeded_generator(seed, "visualize"))
    shuffled = Subset(whole=data, indices=shuffle, split=split)
    backend = backend_for(checkpoint, data, execution)
    images, labels, logits = choose(backend, shuffled, n, only, order)
    if not len(images):
        raise UserError(
            f"the network has none of the {len(data):,} {split} images {only}; "
            "draw others with `only` all."
        )
    title = f"{checkpoint.recipe.get('model', 'network')} on {data.name}, {split}"
    title += ", most confident first" if order == "confident" else ""
    return plot_predictions(images, labels, logits, data.classes, out, title=title)


def beside(run: str | Path | Checkpoint | Exported) -> Path:
    """Where the predictions of a network are drawn unless a file is named."""
    folder = Path()
    if isinstance(run, str | Path) and not is_address(run):
        path = user_path(run)
        folder = path if path.is_dir() else path.parent if path.is_file() else folder
    return Run(folder).predictions_file


def choose(
    backend: Backend, dataset: Dataset, n: int, only: Only, order: Order = "random"
) -> tuple[Tensor, Tensor, Tensor]:
    """The first n that ``only`` admits: images, labels, logits divided by the temperature.

    By the data set's order, so that later images are not computed, or by confidence.
    """
    seen: list[Tensor] = []
    found = 0
    for logits, labels in progress_batches(backend, dataset):
        seen.append(logits)
        found += int(_admitted(logits, labels, only).sum())
        if found >= n and order == "random":
            break
    logits = torch.cat(seen) / backend.temperature
    chosen = torch.nonzero(_admitted(logits, dataset.labels[: len(logits)], only)).flatten()
    if order == "confident":
        confidence = logits[chosen].double().softmax(1).amax(1)
        chosen = chosen[confidence.argsort(descending=True, stable=True)]
    chosen = chosen[:n]
    return *dataset.batch(chosen), logits[chosen]


def _admitted(logits: Tensor, labels: Tensor, only: Only) -> Tensor:
    right = logits.argmax(1) == labels
    return {"all": torch.ones_like(right), "right": right, "wrong": ~right}[only]


def _show(axes: Axes, pixels: np.ndarray, size: int) -> None:
    """uint8 (h, w, 3); the pixels of images of a small ``size`` stay visible as squares."""
    axes.imshow(pixels, interpolation="nearest" if size <= 64 else "antialiased")
    axes.set_xticks([])
