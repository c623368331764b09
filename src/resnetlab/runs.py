"""The run folder: what a training leaves behind, and what everything later starts from.

recipe.json; metrics.jsonl, one line an epoch; TensorBoard events; last.pt, the full state to go on
from, and previous.pt, the one before it; best.pt, the network to use (see ``Checkpoint``);
test.json; evaluation.json, all that was found of best.pt; curves.png; of a user's own images
split.csv, which image was for what, and skipped.tsv, those that could not be read. Plain dicts and
tensors only, so that everything loads with ``weights_only=True``. recipe.json and the states carry
a digest, so that no changed byte passes.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import shlex
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from resnetlab.console import Report
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
from resnetlab.weights.digest import digest
from resnetlab.weights.locate import BEST, SPLIT

FORMAT = 1
"""Of the folder; recipe.json states it, and last.pt for itself. Folders without a number are 1."""

_DAMAGE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError),
    *(struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What reading a damaged state can raise."""


class Run:
    """The folder that a training leaves; nothing in it is read before it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = _path("run", path)
        self.best_file = self.path / BEST
        self.last_file = self.path / "last.pt"
        self.previous_file = self.path / "previous.pt"
        self.tensorboard = self.path / "tensorboard"
        self.curves_file = self.path / "curves.png"
        self.predictions_file = self.path / "predictions.png"
        self.result_file = self.path / "test.json"
        self.split_file = self.path / SPLIT
        self.skipped_file = self.path / "skipped.tsv"
        self.evaluation_file = self.path / "evaluation.json"
        self._metrics_file = self.path / "metrics.jsonl"
        self._recipe_file = self.path / "recipe.json"
        self._lock_file = self.path / ".lock"
        self._is_new = False
        self._last_is_damaged = False

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(cls, name: str, out: str | Path | None = None) -> Run:
        """A new folder: ``out``, or the first free of runs/NAME, runs/NAME-2, ...

        Raises UserError if ``out`` holds a run or cannot be written.
        """
        if out is not None:
            run = cls(_path("out", out))
            if run.exists:
                raise UserError(
                    f"`out` {out} already holds a run; name another folder, or go on with it: "
                    f"{run.resume_command()}"
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

    def resume_command(self, *words: object) -> str:
        """What a person types to go on with the run, as a shell takes it."""
        return shlex.join(["resnetlab", "resume", str(self.path), *map(str, words)])

    @property
    def recipe(self) -> Recipe:
        """How it is trained; UserError if the folder has no recipe, a damaged or a changed one."""
        recipe, whose = self._read_recipe()
        if whose == "another's":
            raise UserError(
                f"{self._recipe_file} is damaged or was changed by hand; put it back, or go on "
                f"with what it says: {self.resume_command('--accept-changes')}"
            )
        return recipe

    @property
    def edited_recipe(self) -> Recipe:
        """The same, also where recipe.json was changed by hand."""
        return self._read_recipe()[0]

    def _read_recipe(self) -> tuple[Recipe, Literal["ours", "another's"]]:
        path, text = self._recipe_file, self._read(self._recipe_file)
        try:
            values = json.loads(text)
            if values.get("format", FORMAT) > FORMAT:
                raise UserError("it is of a later version of resnetlab; update this one.")
            stated = values.pop("digest", None)
            ours = stated in (None, digest(values))  # folders of version 0.1.0 state none
            values.pop("format", None)
            return Recipe.from_dict(values), "ours" if ours else "another's"
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def write_recipe(self, recipe: Recipe) -> None:
        values = json.loads(json.dumps({"format": FORMAT} | recipe.to_dict()))  # as will be read
        write_json(self._recipe_file, values | {"digest": digest(values)})

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
        return self._read_state(self.last_file)

    def latest(self, report: Report) -> dict[str, Any] | None:
        """The state to go on from; None before the first one.

        That is last.pt or, where it is damaged or a crash came between the two, previous.pt, which
        is reported. Raises UserError where none is whole.
        """
        faults: list[_DamageError] = []
        with reading(self.path):
            files = [file for file in (self.last_file, self.previous_file) if file.exists()]
        for file in files:
            try:
                values = self._read_state(file)
            except _DamageError as error:
                self._last_is_damaged = self._last_is_damaged or file == self.last_file
                faults.append(error)
                continue
            if file == self.previous_file:
                what = f"{faults[0].fault};" if faults else f"{self.last_file} is not there:"
                report(f"{what} going on from the state before it, {file.name}")
            return values
        if len(faults) > 1:
            raise UserError(
                f"{faults[0].fault}, and so is {self.previous_file.name}; remove both, and "
                "`resnetlab resume` starts the run anew."
            )
        if faults:
            raise faults[0]
        return None

    def _read_state(self, path: Path) -> dict[str, Any]:
        try:
            check_zip(path)
            with path.open("rb") as file:  # of a path, torch would go by the ending
                values = torch.load(file, map_location="cpu", weights_only=True)
            later = values.get("format", FORMAT) > FORMAT
            stated = values.pop("digest", None)
            if not later and stated not in (None, digest(values)):
                raise ValueError("its SHA-256 is not the one that it states")
            values.pop("format", None)
        except FileNotFoundError:
            raise UserError(f"there is no file {path}.") from None
        except _DAMAGE as error:
            raise _DamageError(path, error) from error
        if later:
            raise UserError(f"{path} is of a later version of resnetlab; update this one.")
        return values

    def write_last(self, values: Mapping[str, Any]) -> None:
        """Write the state to go on from, plain values and tensors; the one before it is kept."""
        values = {"format": FORMAT, **values}
        with atomic_write(self.last_file) as temporary:
            try:
                torch.save(values | {"digest": digest(values)}, temporary)
            except RuntimeError as error:
                # torch's zip writer reports a full disk as a RuntimeError of its own.
                raise OSError(
                    None, "not all of it could be written, the disk may be full"
                ) from error
            if self.last_file.exists() and not self._last_is_damaged:
                self.last_file.replace(self.previous_file)
        self._last_is_damaged = False

    @property
    def result(self) -> dict[str, Any] | None:
        """The result on the test set, with which a run is finished; None before that."""
        path = self.result_file
        if not path.exists():
            return None
        try:
            return json.loads(self._read(path))
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}); remove it, and test again: {self.resume_command()}"
            ) from error

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_json(self.result_file, dict(result))

    @property
    def evaluations(self) -> dict[str, Any]:
        """What ``write_evaluation`` wrote, by its key; empty before the first one."""
        path = self.evaluation_file
        if not path.exists():
            return {}
        try:
            values = json.loads(self._read(path))
            if values.pop("format") > FORMAT:
                raise UserError(f"{path} is of a later version of resnetlab; update this one.")
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            if isinstance(error, UserError):
                raise
            again = shlex.join(["resnetlab", "evaluate", str(self.path)])
            raise UserError(
                f"{path} is damaged ({error}); remove it, and evaluate again: {again}"
            ) from error
        return values

    def write_evaluation(self, key: str, values: Mapping[str, Any]) -> None:
        """Keep what was found of best.pt, beside what was found before under other keys.

        The key is the split, with the test-time augmentation or "corruptions" after a comma.
        """
        known = self.evaluations
        write_json(self.evaluation_file, {"format": FORMAT} | known | {key: dict(values)})

    def reopen(self) -> None:
        """Take back that the run is finished, and what was found of its network."""
        self.result_file.unlink(missing_ok=True)
        self.evaluation_file.unlink(missing_ok=True)

    @property
    def skipped_paths(self) -> set[str]:
        """Images that were left out of the training since they cannot be read."""
        if not self.skipped_file.is_file():
            return set()
        _, *lines = self._read(self.skipped_file).splitlines()
        return {line.partition("\t")[0] for line in lines}

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


class _DamageError(UserError):
    """A state that is not as it was written."""

    def __init__(self, path: Path, error: Exception) -> None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.fault = f"{path} is damaged or was not written by resnetlab ({reason})"
        super().__init__(f"{self.fault}; remove it, and `resnetlab resume` starts the run anew.")


def _path(parameter: str, value: object) -> Path:
    """A path that a person gave; UserError if it is none."""
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"`{parameter}` must be a path, not {value!r}.")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # of ~somebody
        raise UserError(f"`{parameter}` {value}: {error}") from error


def best_epoch(metrics: Sequence[Mapping[str, Any]]) -> int:
    """Index of the line with the highest val_top1, then the lowest val_loss, then the latest.

    Without validation that is the last one.
    """

    def rank(index: int) -> tuple[float, float, int]:
        top1, loss = (metrics[index].get(key) for key in ("val_top1", "val_loss"))
        return (-math.inf if top1 is None else top1, -(loss or 0.0), index)

    return max(range(len(metrics)), key=rank)
