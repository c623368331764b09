"""The run folder: what a training leaves behind, and what everything later starts from.

recipe.json; metrics.jsonl, one line an epoch; TensorBoard events; last.pt and previous.pt, the
states to go on from (see ``States``); best.pt, the network to use (see ``Checkpoint``); test.json;
evaluation.json, all that was found of best.pt; curves.png; of a user's own images split.csv, which
image was for what, and skipped.tsv, those that could not be read. Plain dicts and tensors only, so
that everything loads with ``weights_only=True``. recipe.json and the states carry a digest, so that
no changed byte passes.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from resnetlab.errors import UserError
from resnetlab.files import (
    is_locked,
    locked,
    reading,
    remove_partial,
    write_json,
    write_text,
)
from resnetlab.recipes.record import Recipe
from resnetlab.states import States, read_state
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint
from resnetlab.weights.digest import digest
from resnetlab.weights.locate import BEST, SPLIT

FORMAT = 1
"""Of the folder, stated in recipe.json. Folders without a number are 1."""


class Run:
    """The folder that a training leaves; nothing in it is read before it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = _path("run", path)
        self.best_file = self.path / BEST
        self.states = States(self.path)
        self.tensorboard = self.path / "tensorboard"
        self.curves_file = self.path / "curves.png"
        self.predictions_file = self.path / "predictions.png"
        self.result_file = self.path / "test.json"
        self.evaluation_file = self.path / "evaluation.json"
        self.split_file = self.path / SPLIT
        self.skipped_file = self.path / "skipped.tsv"
        self.report_file = self.path / "report.html"
        self._metrics_file = self.path / "metrics.jsonl"
        self._recipe_file = self.path / "recipe.json"
        self._progress_file = self.path / "progress.json"
        self._lock_file = self.path / ".lock"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """In a notebook: what it trained, how far it is, and its curves."""
        if not self.exists:
            return f"<p>{html.escape(str(self.path))} is not a run folder yet.</p>"
        recipe, metrics = self.recipe, self.metrics if self._metrics_file.exists() else []
        rows = {"recipe": recipe.name, "network": recipe.model, "data": recipe.dataset}
        rows |= {
            "epochs": f"{len(metrics)} of {math.ceil(recipe.epochs)}",
            "seed": str(recipe.seed),
        }
        if metrics and metrics[best_epoch(metrics)].get("val_top1") is not None:
            rows["validation accuracy"] = f"{metrics[best_epoch(metrics)]['val_top1']:.2f} %"
        if result := self.result:
            rows["test accuracy"] = f"{result['top1']:.2f} %" if "top1" in result else "no test set"
        if self.report_file.exists():
            rows["report"] = str(self.report_file)
        cells = "".join(
            f"<tr><th scope='row' style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        picture = ""
        if self.curves_file.exists():
            data = base64.b64encode(self.curves_file.read_bytes()).decode("ascii")
            words = "Loss, accuracy and learning rate over the epochs"
            picture = f"<img alt='{words}' width='900' src='data:image/png;base64,{data}'>"
        title = html.escape(str(self.path))
        return f"<table><caption>{title}</caption><tbody>{cells}</tbody></table>{picture}"

    @classmethod
    def check_new(cls, out: str | Path | None) -> None:
        """UserError if a new run could not be made in ``out``."""
        if out is None:
            return
        run = cls(_path("out", out))
        if run.exists:
            raise UserError(
                f"`out` {out} already holds a run; name another folder, or go on with it: "
                f"{run.resume_command()}"
            )
        if run.is_being_trained:
            raise run._busy()
        nearest = next(path for path in (run.path, *run.path.absolute().parents) if path.exists())
        if nearest == run.path and not nearest.is_dir():
            raise UserError(f"`out` {out} is a file; name a folder.")
        writable = os.access(nearest, os.W_OK | os.X_OK)
        if not (nearest.is_dir() and writable):
            reason = "Permission denied" if nearest.is_dir() else "Not a directory"
            raise UserError(f"cannot write to `out` {out}: {reason}; name another.")

    @classmethod
    def create(cls, name: str, out: str | Path | None = None) -> Run:
        """A new folder: ``out``, or the first free of runs/NAME, runs/NAME-2, ...

        Raises UserError if ``out`` holds a run or cannot be written.
        """
        number = 1
        while True:
            cls.check_new(out)
            run = cls(out or Path("runs") / (name if number == 1 else f"{name}-{number}"))
            try:
                run.path.mkdir(parents=True, exist_ok=out is not None)
                return run
            except FileExistsError:  # another process may have made it just now
                number += 1
            except OSError as error:
                raise UserError(
                    f"cannot write to `out` {run.path}: {error.strerror}; name another."
                ) from None

    def check_begun(self) -> None:
        """UserError if no training has begun here."""
        if not self.exists and not self.states.exist:
            self._read(self._recipe_file)

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
        recipe, whose = self.read_recipe()
        if whose == "another's":
            raise UserError(
                f"{self._recipe_file} is damaged or was changed by hand; put it back, or go on "
                f"with what it says: {self.resume_command('--accept-changes')}"
            )
        return recipe

    def read_recipe(self) -> tuple[Recipe, Literal["ours", "another's"]]:
        """What recipe.json says, and whether we wrote it or somebody changed it by hand."""
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
        """The state to go on from; UserError if there is no such file or it is not whole."""
        return read_state(self.states.last_file)

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

    @property
    def progress(self) -> dict[str, Any]:
        """What a training has told of itself last; empty where it never did, or has finished."""
        try:
            return json.loads(self._progress_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def tell_progress(self, values: Mapping[str, Any]) -> None:
        """For ``progress``; not flushed, and lost where it cannot be written."""
        temporary = self._progress_file.with_name(".progress-partial-.json")
        with suppress(OSError):
            temporary.write_text(json.dumps(dict(values)), encoding="utf-8")
            temporary.replace(self._progress_file)

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_json(self.result_file, dict(result))
        self._progress_file.unlink(missing_ok=True)

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

    @property
    def is_being_trained(self) -> bool:
        """By a process of this machine."""
        return self._lock_file.exists() and is_locked(self._lock_file)

    def _busy(self) -> UserError:
        return UserError(
            f"{self.path} is being trained by another process; wait for its end or stop it first."
        )

    @contextmanager
    def training(self) -> Iterator[None]:
        """Keep every other process of this machine from training the run; UserError if one does.

        Removes what a killed one has left half-written.
        """

        def busy() -> None:
            raise self._busy()

        with locked(self._lock_file, busy):
            remove_partial(self.path)
            yield


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
