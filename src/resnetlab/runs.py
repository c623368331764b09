"""The run folder: what a training leaves behind, and what everything later starts from.

recipe.json; metrics.jsonl, one line an epoch; TensorBoard events; last.pt, the full state to go on
from; best.pt, the weights to use (see ``Checkpoint``); test.json; curves.png. Plain dicts and
tensors only, so that everything loads with ``weights_only=True``.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resnetlab.errors import UserError
from resnetlab.files import atomic_write, check_zip, locked, remove_partial
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.models.summary import default_image_size
from resnetlab.recipes.record import Recipe
from resnetlab.weights.checkpoint import IMAGENET, read_weights, save_weights


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network with all that is needed to use it: what best.pt holds."""

    model: ResNet
    """in eval mode, fp32, on the CPU"""
    classes: tuple[str, ...]
    """name of each output"""
    mean: tuple[float, ...]
    """per channel, of pixels scaled to 0..1"""
    std: tuple[float, ...]
    guessed: bool = False
    """whether the two are a guess, as a foreign file does not tell"""
    image_size: int
    """pixels that an image is resized and cropped to"""
    dataset: str | None = None
    """what it was trained on; None: unknown"""
    metrics: dict[str, Any] = field(default_factory=dict)
    """validation metrics of these weights"""
    recipe: dict[str, Any] = field(default_factory=dict)
    origin: str = "resnetlab"
    """plain words: where it comes from and what it is"""
    notes: tuple[str, ...] = ()
    """what had to be assumed"""

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    def save(self, path: Path) -> None:
        """Write atomically; UserError if the disk is full or the folder closed."""
        save_weights(
            self.model,
            path,
            classes=list(self.classes),
            mean=list(self.mean),
            std=list(self.std),
            image_size=self.image_size,
            dataset=self.dataset,
            metrics=self.metrics,
            recipe=self.recipe,
        )


def save(values: dict[str, Any], path: Path) -> None:
    """``torch.save`` to a temporary name, then rename."""
    with atomic_write(path) as temporary:
        try:
            torch.save(values, temporary)
        except RuntimeError as error:
            # torch's zip writer reports a full disk as a RuntimeError of its own.
            raise OSError(None, "not all of it could be written, the disk may be full") from error


def load(path: Path) -> dict[str, Any]:
    """Read what ``save`` wrote; UserError if there is no such file or it is not whole."""
    try:
        check_zip(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}.") from None
    except (OSError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged or was not written by resnetlab ({reason}); remove it, and "
            "`resnetlab resume` starts the run anew."
        ) from error


def load_model(source: str | Path, *, model: str | None = None) -> Checkpoint:
    """The best network of a run folder, or that of a file or name that ``read_weights`` can read.

    ``model`` names the architecture where tensors alone cannot tell it. What the source does not
    say is filled in, and said in ``notes``. Raises UserError if there is no network in it.
    """
    weights = read_weights(source, architecture=get_architecture(model) if model else None)
    architecture, notes = weights.architecture, list(weights.notes)
    size = weights.image_size or default_image_size(architecture)
    mean, std = weights.mean, weights.std
    if mean is None or std is None:
        mean, std = IMAGENET if architecture.in_channels == 3 else ((0.5,), (0.5,))
        notes.append("its images are normalised as ImageNet's, or as the data set's in evaluation")
    return Checkpoint(
        model=weights.build(),
        classes=weights.classes or tuple(f"class {i}" for i in range(architecture.num_classes)),
        mean=mean,
        std=std,
        guessed=weights.mean is None,
        image_size=size,
        dataset=weights.dataset,
        metrics=weights.metrics,
        recipe=weights.recipe,
        origin=weights.origin,
        notes=tuple(notes),
    )


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; UserError if the folder has none or they are damaged."""
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{run} holds no metrics.jsonl, so it is not a run folder.")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); `resnetlab resume` writes it anew if the run is not "
            "finished."
        ) from error


def best_epoch(metrics: Sequence[Mapping[str, Any]]) -> int:
    """Index of the line with the highest val_top1, then the lowest val_loss, then the latest.

    Without validation that is the last one.
    """

    def rank(index: int) -> tuple[float, float, int]:
        top1, loss = (metrics[index].get(key) for key in ("val_top1", "val_loss"))
        return (-math.inf if top1 is None else top1, -(loss or 0.0), index)

    return max(range(len(metrics)), key=rank)


def read_recipe(run: str | Path) -> Recipe:
    """The recipe of a run folder; UserError if the folder has none or it is damaged."""
    path = Path(run) / "recipe.json"
    if not path.is_file():
        raise UserError(f"{run} holds no recipe.json, so it is not a run folder.")
    try:
        return Recipe.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def new_run(recipe_name: str, out: str | Path | None) -> Path:
    """A folder for a new run: ``out``, or the first free of runs/NAME, runs/NAME-2, ...

    Raises UserError if ``out`` holds a run or cannot be written.
    """
    if out is None:
        path, number = Path("runs") / recipe_name, 2
        while path.exists():
            path, number = Path("runs") / f"{recipe_name}-{number}", number + 1
    else:
        path = Path(out)
    if (path / "recipe.json").exists():
        raise UserError(
            f"`out` {path} already holds a run; name another folder, or go on with it: "
            f"resnetlab resume {path}"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to `out` {path}: {error.strerror}; name another.") from None
    return path


@contextmanager
def to_train(run: Path) -> Iterator[None]:
    """Keep every other process of this machine from training the run; UserError if one does.

    Removes what a killed one has left half-written.
    """

    def busy() -> None:
        raise UserError(
            f"{run} is being trained by another process; wait for its end or stop it first."
        )

    # The folder itself is locked, so that no lock file stays in it.
    with locked(run, busy):
        remove_partial(run)
        yield
