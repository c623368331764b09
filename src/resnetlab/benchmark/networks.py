"""Images a second of networks, each measured in a process of its own."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from resnetlab.benchmark.records import FolderRate, NetworkRate
from resnetlab.benchmark.timing import require_positive
from resnetlab.models.architecture import get_architecture
from resnetlab.models.summary import default_image_size
from resnetlab.training.execution import Execution, has_fast_bf16
from resnetlab.training.recipe import Recipe, get_recipe


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
    ``seconds``. Raises ValueError, one sentence, for a name or value that cannot work.
    """
    require_positive(steps=steps, seconds=seconds)
    work = {"repeats": steps, "seconds": seconds}
    rows = []
    for model, batch_size in itertools.product(models, batch_sizes):
        changes = {"model": model, "model_overrides": overrides or {}, "batch_size": batch_size}
        asked = get_recipe(recipe, **changes, execution=execution, accumulate=1)
        if execution == "auto":
            chosen = _in_own_process("choose", recipe=asked.to_dict())
            asked = replace(asked, execution=chosen["execution"])
        else:
            Execution.parse(execution)
        rows.append(_row(_in_own_process("training", recipe=asked.to_dict(), **work)))
    return rows


def benchmark_inference(
    models: Sequence[str] = ("resnet20",),
    batch_sizes: Sequence[int] = (1, 16),
    *,
    execution: str = "auto",
    overrides: Mapping[str, str | int] | None = None,
    image_size: int | None = None,
    folder: str | Path | None = None,
    repeats: int = 30,
    seconds: float = 10.0,
) -> list[NetworkRate] | list[FolderRate]:
    """``Predictor`` from decoded pixels to logits, for each network and batch size.

    With ``folder``, the images in it instead: decoder alone, network alone and both together, in
    turn, three times and on at most eight batches, so that the limit can be named. ``image_size``
    is the paper's unless given. Raises ValueError, one sentence, for what cannot work.
    """
    require_positive(repeats=repeats, seconds=seconds, image_size=image_size)
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder}.")
    how = inference_execution() if execution == "auto" else Execution.parse(execution)
    rows = []
    for model, batch_size in itertools.product(models, batch_sizes):
        require_positive(batch_size=batch_size)
        architecture = get_architecture(model, **overrides or {})
        work = {"folder": str(folder)} if folder else {"repeats": repeats, "seconds": seconds}
        answer = _in_own_process(
            "folder" if folder else "inference",
            model=model,
            architecture=architecture.to_dict(),
            batch_size=batch_size,
            image_size=image_size or default_image_size(architecture),
            execution=str(how),
            **work,
        )
        rows.append(_row(answer))
    return rows


def inference_execution() -> Execution:
    """The fastest that is sound everywhere: no compiler, bf16 where the machine has it."""
    cuda = torch.cuda.is_available()
    return Execution(
        device="cuda" if cuda else "cpu",
        precision="bf16" if cuda or has_fast_bf16() else "fp32",
        layout="channels_last",
    )


def _in_own_process(job: str, **arguments: Any) -> dict[str, Any]:
    """What ``__main__`` answers in a new process."""
    command = [sys.executable, "-m", "resnetlab.benchmark"]
    task = json.dumps({"job": job, **arguments})
    process = subprocess.run(command, input=task, stdout=subprocess.PIPE, text=True)
    if process.returncode == -signal.SIGKILL:
        raise ValueError("the measurement was killed, so memory is short; take a smaller batch.")
    process.check_returncode()
    return json.loads(process.stdout.splitlines()[-1])


def _row(values: dict[str, Any]) -> Any:
    kind = NetworkRate if "job" in values else FolderRate
    return kind(**{field.name: values[field.name] for field in fields(kind)})
