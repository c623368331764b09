"""Images a second of networks, each measured in a process of its own."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from resnetlab.arguments import check_types
from resnetlab.benchmark.records import FileRate, NetworkRate
from resnetlab.benchmark.samples import write_samples
from resnetlab.benchmark.timing import require_positive
from resnetlab.compute.execution import Execution
from resnetlab.errors import UserError
from resnetlab.files import reading, user_path
from resnetlab.inference.prepare import inference_execution
from resnetlab.models.architecture import get_architecture
from resnetlab.models.summary import default_image_size
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import get_recipe


@check_types
def benchmark_training(
    models: Sequence[str] = ("resnet20",),
    batch_sizes: Sequence[int] = (128,),
    *,
    execution: str = "auto",
    overrides: Mapping[str, str | int] | None = None,
    recipe: str | Recipe = "cifar10-quick",
    steps: int = 20,
    seconds: float = 20.0,
) -> list[NetworkRate]:
    """The training loop's own steps, augmentation included, for each network and batch size.

    ``overrides`` are fields of every architecture to change, ``recipe`` gives optimizer and
    augmentation. Each row takes ``steps`` steps, fewer (but three) if they last longer than
    ``seconds``. Raises UserError, one sentence, for a name or value that cannot work.
    """
    require_positive(steps=steps, seconds=seconds)
    work = {"repeats": steps, "seconds": seconds}
    if execution != "auto":
        Execution.parse(execution)
    changes: dict[str, Any] = {"model_overrides": overrides or {}, "execution": execution}
    recipes = [
        get_recipe(recipe, model=model, batch_size=batch_size, accumulate=1, **changes)
        for model, batch_size in itertools.product(models, batch_sizes)
    ]
    rows = []
    for asked in recipes:
        if execution == "auto":
            chosen = _in_own_process("choose", recipe=asked.to_dict())
            asked = replace(asked, execution=chosen["execution"])
        rows.append(_row(_in_own_process("training", recipe=asked.to_dict(), **work)))
    return rows


@check_types
def benchmark_inference(
    models: Sequence[str] = ("resnet20",),
    batch_sizes: Sequence[int] = (1, 16),
    *,
    execution: str = "auto",
    overrides: Mapping[str, str | int] | None = None,
    image_size: int | None = None,
    repeats: int = 30,
    seconds: float = 10.0,
) -> list[NetworkRate]:
    """``Predictor`` from decoded pixels to logits, for each network and batch size.

    ``image_size`` is the paper's unless given. Each row takes ``repeats`` batches, fewer (but
    three) if they last longer than ``seconds``. Raises UserError, one sentence, for what cannot
    work.
    """
    require_positive(repeats=repeats, seconds=seconds)
    for batch_size in batch_sizes:
        require_positive(batch_size=batch_size)
    tasks = [_inference_task(model, execution, overrides, image_size) for model in models]
    rows = []
    for task, batch_size in itertools.product(tasks, batch_sizes):
        work = {"batch_size": batch_size, "repeats": repeats, "seconds": seconds}
        rows.append(_row(_in_own_process("inference", **task, **work)))
    return rows


@check_types
def benchmark_files(
    models: Sequence[str] = ("resnet20",),
    *,
    execution: str = "auto",
    overrides: Mapping[str, str | int] | None = None,
    image_size: int | None = None,
    folder: str | Path | None = None,
    seconds: float = 10.0,
) -> list[FileRate]:
    """``Predictor`` from files to names: decoder alone, network alone and both, in turn.

    The files are those of ``folder``, or JPEG of a photograph's size and PNG of the network's own;
    four batches of them, three times, or once if that lasts longer than ``seconds``.
    ``image_size`` is the paper's unless given. Raises UserError, one sentence, for what cannot
    work.
    """
    require_positive(seconds=seconds)
    if folder is not None:
        folder = user_path(folder)
        with reading(folder):
            if not folder.is_dir():
                raise UserError(f"there is no folder {folder}.")
    tasks = [_inference_task(model, execution, overrides, image_size) for model in models]
    rows = []
    for task in tasks:
        with tempfile.TemporaryDirectory() as scratch:
            samples = () if folder else write_samples(Path(scratch), task["image_size"])
            for path in samples or [folder]:
                answer = _in_own_process("files", **task, folder=str(path), seconds=seconds)
                rows.append(_row(answer))
    return rows


def _inference_task(
    model: str,
    execution: str,
    overrides: Mapping[str, str | int] | None,
    image_size: int | None,
) -> dict[str, Any]:
    """What rows of inference have in common, as plain values."""
    require_positive(image_size=image_size)
    architecture = get_architecture(model, **overrides or {})
    return {
        "model": model,
        "architecture": architecture.to_dict(),
        "image_size": image_size or default_image_size(architecture),
        "execution": str(inference_execution(execution)),
    }


def _in_own_process(job: str, **arguments: Any) -> dict[str, Any]:
    """What ``__main__`` answers in a new process; its UserError is raised here."""
    command = [sys.executable, "-m", "resnetlab.benchmark"]
    task = json.dumps({"job": job, **arguments})
    process = subprocess.run(command, input=task, stdout=subprocess.PIPE, text=True)
    if process.returncode == -signal.SIGKILL:
        raise UserError("the measurement was killed, so memory is short; take a smaller batch.")
    process.check_returncode()
    answer = json.loads(process.stdout.splitlines()[-1])
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


def _row(values: dict[str, Any]) -> Any:
    kind = FileRate if values["job"] == "files" else NetworkRate
    return kind(**{field.name: values[field.name] for field in fields(kind)})
