"""The same folder, the same cores, the same minutes: `python -m benchmarks.peers FOLDER`.

CIFAR-10 as PNG files in FOLDER/all/{train,val,test}/CLASS (45,000 to train on, 5,000 to choose by,
10,000 to judge) and its tenth of training and validation images; each contestant trains a network
from scratch for five minutes, reading of the files included, and is then judged on the test images
by its own means. The others live in environments of their own:

    python -m venv VENVS/ultralytics && VENVS/ultralytics/bin/pip install ultralytics
    python -m venv VENVS/fastai && VENVS/fastai/bin/pip install fastai

Each run is a line of `record.csv`; a run that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from benchmarks.record import append, lines
from resnetlab import load_dataset

HERE = Path(__file__).parent
RECORD = HERE / "record.csv"
SETS = {"all": 50_000, "tenth": 5_000}
"""Folder -> images to train on and to choose by; a tenth of them are for the latter."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    name: str
    venv: str
    """"": ours"""
    options: tuple[str, ...] = ()
    """of with_VENV.py, or of resnetlab"""


CONTESTANTS = (
    Contestant(name="resnetlab finetune", venv="", options=("finetune", "--pretrained", "none")),
    Contestant(name="fastai, as in its tutorials", venv="fastai"),
    Contestant(name="fastai, tuned", venv="fastai", options=("--tuned",)),
    Contestant(name="Ultralytics, its defaults", venv="ultralytics"),
    Contestant(name="Ultralytics, tuned", venv="ultralytics", options=("--tuned",)),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A line of the record."""

    contestant: str
    images: int
    """to train on and to choose by"""
    top1: float
    """% of the 10,000 test images"""
    images_per_second: float
    """of the training, validation and all included"""
    seconds: float
    """from the start of the command to the trained network; without the test"""
    core: float
    """% of its cores' time that the whole command used"""
    network: str
    version: str


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    arguments.add_argument("folder", type=Path, help="for images and runs; 300 MB")
    arguments.add_argument("--venvs", type=Path, default=Path("/tmp/peers"))
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--core", default="0,1", help="that all are bound to; 0: to one")
    arguments.add_argument("--most", type=int, help="runs to do before it ends; default: all")
    arguments.add_argument("--only", default="", help="contestants with this in their name")
    arguments.add_argument("--record", type=Path, default=RECORD, help="default: record.csv here")
    arguments.add_argument("--set", choices=SETS, help="default: both")
    options = arguments.parse_args()
    done = {(r.contestant, r.images) for r in read(options.record)}
    runs = (
        (name, each)
        for name in ([options.set] if options.set else SETS)
        for each in CONTESTANTS
        if options.only in each.name and (each.name, SETS[name]) not in done
    )
    for name, contestant in itertools.islice(runs, options.most):
        data = class_folders(options.folder.absolute() / name, SETS[name])
        result = compete(contestant, data, options)
        append(options.record, result)
        print(result, flush=True)


def compete(contestant: Contestant, data: Path, options: argparse.Namespace) -> Result:
    """One run of a contestant; its own output goes to stderr."""
    budget = f"{60 * options.minutes:g}"
    with tempfile.TemporaryDirectory(dir=options.folder) as run:
        if contestant.venv:
            python = options.venvs / contestant.venv / "bin" / "python"
            program = [str(python), str(HERE / f"with_{contestant.venv}.py"), str(data), budget]
            program += contestant.options
        else:
            verb, *rest = contestant.options
            program = [sys.executable, "-m", "resnetlab", verb, str(data), "--budget", f"{budget}s"]
            program += ["--out", f"{run}/run", *rest]
        threads = str(len(options.core.split(",")))
        began, used = time.time(), _processor_seconds()
        done = subprocess.run(
            ["taskset", "-c", options.core, *program],
            env=os.environ | {"OMP_NUM_THREADS": threads, "YOLO_CONFIG_DIR": run},
            cwd=run if contestant.venv else None,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        found = json.loads(done.stdout.splitlines()[-1]) if contestant.venv else _ours(run, began)
        share = (_processor_seconds() - used) / (time.time() - began) / int(threads)
    seconds = found["ended"] - began
    return Result(
        contestant=contestant.name,
        images=SETS[data.name],
        top1=round(found["top1"], 2),
        images_per_second=round(found["images"] / seconds, 1),
        seconds=round(seconds, 1),
        core=round(100 * share, 1),
        network=found["network"],
        version=found["version"],
    )


def _processor_seconds() -> float:
    """Of all commands so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _ours(folder: str, began: float) -> dict[str, object]:
    """What a run folder says of itself."""
    from resnetlab.runs import Run
    from resnetlab.version import __version__

    run = Run(Path(folder) / "run")
    result = run.result
    assert result is not None
    recipe = run.recipe
    steps = max(line["step"] for line in run.metrics)
    return {
        "top1": result["top1"],
        "images": steps * recipe.batch_size,
        "ended": run.best_file.stat().st_mtime,
        "network": recipe.model,
        "version": __version__,
    }


def class_folders(root: Path, images: int) -> Path:
    """PNG files of CIFAR-10: of each class its first images, the last tenth of them for "val"."""
    if root.exists():
        return root
    for stored in ("train+val", "test"):
        data = load_dataset("cifar10", stored)
        for label, name in enumerate(data.classes):
            chosen = torch.nonzero(data.labels == label).flatten()
            if stored == "test":
                parts = {"test": chosen}
            else:
                chosen = chosen[: images // 10]
                cut = len(chosen) * 9 // 10
                parts = {"train": chosen[:cut], "val": chosen[cut:]}
            for split, indices in parts.items():
                folder = root / split / name
                folder.mkdir(parents=True)
                pixels, _ = data.batch(indices)
                for index, image in zip(indices.tolist(), pixels, strict=True):
                    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
                    picture.save(folder / f"{index:05}.png", compress_level=1)
    return root


def read(record: Path = RECORD) -> list[Result]:
    """The record."""
    return [_parsed(row) for row in lines(record)]


def _parsed(row: dict[str, str]) -> Result:
    numbers = {name: float(row[name]) for name in ("top1", "images_per_second", "seconds", "core")}
    texts = {name: row[name] for name in ("contestant", "network", "version")}
    return Result(images=int(row["images"]), **numbers, **texts)


HEADINGS = [
    "images",
    "contestant",
    "network",
    "test accuracy, %",
    "images/s",
    "seconds",
    "of its cores, %",
]


def rows() -> Iterator[list[str]]:
    """The table of the record, the larger set first."""
    for result in sorted(read(), key=lambda each: (-each.images, -each.top1)):
        yield [
            f"{result.images:,}",
            f"{result.contestant} {result.version}",
            result.network,
            f"{result.top1:.2f}",
            f"{result.images_per_second:,.0f}",
            f"{result.seconds:.0f}",
            f"{result.core:.0f}",
        ]


if __name__ == "__main__":
    main()
