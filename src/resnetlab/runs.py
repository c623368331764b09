"""The run folder: what a training leaves behind, and what everything later starts from.

recipe.json; metrics.jsonl, one line an epoch; TensorBoard events; last.pt, the full state to go on
from; best.pt, the network to use (see ``Checkpoint``); test.json; curves.png. Plain dicts and
tensors only, so that everything loads with ``weights_only=True``.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from resnetlab.errors import UserError
from resnetlab.files import (
    atomic_write,
    check_zip,
    locked,
    reading,
    remove_partial,
    write_json,
    write_text,
)
from resnetlab.recipes.record import Recipe
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint
from resnetlab.weights.locate import BEST

FORMAT = 1
"""Of the folder; recipe.json states it, and last.pt for itself. Folders without a number are 1."""


class Run:
    """The folder that a training leaves; nothing in it is read before it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.best_file = self.path / BEST
        self.last_file = self.path / "last.pt"
        self.tensorboard = self.path / "tensorboard"
        self.curves_file = self.path / "curves.png"
        self.predictions_file = self.path / "predictions.png"
        self.result_file = self.path / "test.json"
        self._metrics_file = self.path / "metrics.jsonl"
        self._recipe_file = self.path / "recipe.json"
        self._lock_file = self.path / ".lock"
        self._is_new = False

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(cls, name: str, out: str | Path | None = None) -> Run:
        """A new folder: ``out``, or the first free of runs/NAME, runs/NAME-2, ...

        Raises UserError if ``out`` holds a run or cannot be written.
        """
        if out is not None:
            run = cls(out)
            if run.exists:
                raise UserError(
                    f"`out` {out} already holds a run; name another folder, or go on with it: "
                    f"resnetlab resume {out}"
                )
            run._make(exist_ok=True)
            return run
        number = 1
        while True:
            run = cls(Path("runs") / (name if number == 1 else f"{name}-{number}"))
            try:
                run._make(exist_ok=False)
                return run
            except FileExistsError:  # another process may have made it just now
                number += 1

    def _make(self, exist_ok: bool) -> None:
        try:
            self._is_new = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            if not exist_ok:
                raise
            raise UserError(f"`out` {self.path} is a file; name a folder.") from None
        except OSError as error:
            raise UserError(
                f"cannot write to `out` {self.path}: {error.strerror}; name another."
            ) from None

    @property
    def exists(self) -> bool:
        """Whether a training has begun here, so that ``resume`` can go on with it."""
        with reading(self._recipe_file):
            return self._recipe_file.exists()

    @property
    def recipe(self) -> Recipe:
        """How it is trained; UserError if the folder has no recipe or it is damaged."""
        path, text = self._recipe_file, self._read(self._recipe_file)
        try:
            values = json.loads(text)
            if values.pop("format", FORMAT) > FORMAT:
                raise UserError("it is of a later version of resnetlab; update this one.")
            return Recipe.from_dict(values)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def write_recipe(self, recipe: Recipe) -> None:
        write_json(self._recipe_file, {"format": FORMAT} | recipe.to_dict())

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The epochs' metrics; UserError if the folder has none or they are damaged."""
        path, text = self._metrics_file, self._read(self._metrics_file)
        try:
            return [json.loads(line) for line in text.splitlines()]
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}); `resnetlab resume` writes it anew if the run is not "
                "finished."
            ) from error

    def _read(self, path: Path) -> str:
        with reading(path):
            if not path.is_file():
                raise UserError(f"{self.path} holds no {path.name}, so it is not a run folder.")
            try:
                return path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path} is damaged ({error}).") from error

    def write_metrics(self, metrics: Sequence[Mapping[str, Any]]) -> None:
        write_text(self._metrics_file, "".join(json.dumps(line) + "\n" for line in metrics))

    @property
    def best(self) -> Checkpoint:
        """The network to use."""
        return load_checkpoint(self.path)

    @property
    def last(self) -> dict[str, Any]:
        """What ``write_last`` wrote; UserError if there is no such file or it is not whole."""
        path = self.last_file
        try:
            check_zip(path)
            values = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise UserError(f"there is no file {path}.") from None
        except (OSError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{path} is damaged or was not written by resnetlab ({reason}); remove it, and "
                "`resnetlab resume` starts the run anew."
            ) from error
        if values.pop("format", FORMAT) > FORMAT:
            raise UserError(f"{path} is of a later version of resnetlab; update this one.")
        return values

    def write_last(self, values: Mapping[str, Any]) -> None:
        """Write the state to go on from: plain values and tensors."""
        with atomic_write(self.last_file) as temporary:
            try:
                torch.save({"format": FORMAT, **values}, temporary)
            except RuntimeError as error:
                # torch's zip writer reports a full disk as a RuntimeError of its own.
                raise OSError(
                    None, "not all of it could be written, the disk may be full"
                ) from error

    @property
    def result(self) -> dict[str, Any] | None:
        """The result on the test set, with which a run is finished; None before that."""
        if not self.result_file.exists():
            return None
        return json.loads(self.result_file.read_text(encoding="utf-8"))

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_json(self.result_file, dict(result))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Keep every other process of this machine from training the run; UserError if one does.

        Removes what a killed one has left half-written.
        """

        def busy() -> None:
            raise UserError(
                f"{self.path} is being trained by another process; wait for its end or stop it "
                "first."
            )

        with locked(self._lock_file, busy):
            remove_partial(self.path)
            try:
                yield
            finally:
                if self._is_new and list(self.path.iterdir()) == [self._lock_file]:
                    self._lock_file.unlink()  # the training could not begin
                    self.path.rmdir()


def best_epoch(metrics: Sequence[Mapping[str, Any]]) -> int:
    """Index of the line with the highest val_top1, then the lowest val_loss, then the latest.

    Without validation that is the last one.
    """

    def rank(index: int) -> tuple[float, float, int]:
        top1, loss = (metrics[index].get(key) for key in ("val_top1", "val_loss"))
        return (-math.inf if top1 is None else top1, -(loss or 0.0), index)

    return max(range(len(metrics)), key=rank)
