"""What fine-tuning brings: `python -m benchmarks.finetuning FOLDER`, half an hour on a thread.

A ResNet-20 learns classes 0 to 4 of CIFAR-10; then 50, 200 and 1,000 images of the other five are
learnt from scratch, by a fitted classifier alone, and by `resnetlab finetune`, three seeds each.
From CIFAR-10 to Fashion-MNIST likewise, and with photographs of 12 megapixels (see photographs.py)
of the same five classes, at 64 pixels. A seed draws the images too, and every training has as many
epochs. Each run is a line of
`finetuning.csv`; a run that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.record import append, lines
from resnetlab import finetune, load_dataset, train
from resnetlab.errors import UserError

RECORD = Path(__file__).with_suffix(".csv")
EPOCHS = 30
"""Of every training but that of the first network."""
EXECUTION = "bf16,channels_last,winograd"
METHODS: dict[str, dict[str, Any]] = {
    "from scratch": {"pretrained": "none", "model": "resnet20"},
    "classifier alone": {"freeze": "backbone"},
    "all layers": {},
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """A line of the record."""

    task: str
    images: int
    """to train and validate on"""
    method: str
    seed: int
    top1: float
    """% of the test set"""
    seconds: float
    """of the whole command"""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.finetuning", description=__doc__)
    arguments.add_argument("folder", type=Path, help="for images and runs; 300 MB")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--most", type=int, help="runs to do before it ends; default: all")
    options = arguments.parse_args()
    done = {(r.task, r.images, r.method, r.seed) for r in read()}
    runs = _runs(options.folder, options.seeds)
    missing = (run for run in runs if run[:4] not in done)
    for task, images, method, seed, work in itertools.islice(missing, options.most):
        began = time.perf_counter()
        top1 = work()
        result = Result(
            task=task,
            images=images,
            method=method,
            seed=seed,
            top1=round(top1, 2),
            seconds=round(time.perf_counter() - began, 1),
        )
        append(RECORD, result)
        print(result, flush=True)


def read() -> list[Result]:
    """The record."""
    return [
        Result(
            task=row["task"],
            images=int(row["images"]),
            method=row["method"],
            seed=int(row["seed"]),
            top1=float(row["top1"]),
            seconds=float(row["seconds"]),
        )
        for row in lines(RECORD)
    ]


def _runs(folder: Path, seeds: int) -> Iterator[tuple[str, int, str, int, Any]]:
    """Task, images, method, seed, and what computes the accuracy."""
    for seed in range(seeds):
        for images in (50, 200, 1000):
            for method, changes in METHODS.items():

                def others(
                    images: int = images, seed: int = seed, changes: dict[str, Any] = changes
                ) -> float:
                    data = class_folders(
                        folder / f"others-{images}-{seed}", range(5, 10), images, seed
                    )
                    return _top1(
                        data, {"pretrained": _first_network(folder)} | changes, seed, folder
                    )

                yield "CIFAR-10, classes 5 to 9", images, method, seed, others
        for method, changes in METHODS.items():

            def fashion(seed: int = seed, changes: dict[str, Any] = changes) -> float:
                size = {"train_size": 1000, "val_size": 200, "split_seed": seed}
                return _top1("fashion-mnist", size | changes, seed, folder)

            yield "Fashion-MNIST", 1200, method, seed, fashion
    for seed in range(seeds):
        for method, changes in METHODS.items():

            def photographs(seed: int = seed, changes: dict[str, Any] = changes) -> float:
                start = {"pretrained": _first_network(folder), "image_size": 64}
                return _top1(_photographs(folder, seed), start | changes, seed, folder)

            yield "photographs of 12 megapixels, classes 5 to 9", 200, method, seed, photographs


def _top1(dataset: Path | str, changes: dict[str, Any], seed: int, folder: Path) -> float:
    settings = {"epochs": EPOCHS, "seed": seed, "execution": EXECUTION} | changes
    if settings.get("freeze") == "backbone":
        settings |= {"execution": "bf16,channels_last"}
    number = len(list((folder / "runs").glob("*"))) if (folder / "runs").is_dir() else 0
    training = finetune(dataset, budget="1h", out=folder / "runs" / str(number), **settings)
    assert training.test is not None
    return training.test.top1


def _first_network(folder: Path) -> str:
    """A run that has learnt classes 0 to 4 of CIFAR-10."""
    run = folder / "first-network"
    if not (run / "test.json").exists():
        data = class_folders(folder / "first", range(5), None, 0)
        train(
            "cifar10-quick", dataset=str(data), val_size=0, epochs=8, execution=EXECUTION, out=run
        )
    return str(run)


def class_folders(root: Path, classes: range, images: int | None, seed: int) -> Path:
    """CIFAR-10's images of some classes as PNG files, ``images`` of them to train on (or all)."""
    if root.exists():
        return root
    for split in ("train", "test"):
        data = load_dataset("cifar10", "train+val" if split == "train" else "test")
        random = np.random.default_rng(seed)
        for label in classes:
            chosen = torch.nonzero(data.labels == label).flatten().numpy()
            if split == "train" and images is not None:
                chosen = random.permutation(chosen)[: images // len(classes)]
            place = root / split / data.classes[label]
            place.mkdir(parents=True)
            pixels, _ = data.batch(torch.from_numpy(chosen))
            for index, image in zip(chosen, pixels.permute(0, 2, 3, 1).numpy(), strict=True):
                Image.fromarray(image).save(place / f"{index:05}.png", compress_level=1)
    return root


def _photographs(folder: Path, seed: int) -> Path:
    """40 of each of the five classes to train on, and 40 to test on, which all seeds share."""
    from benchmarks.photographs import write_photographs

    root, test = folder / f"photographs-{seed}", folder / "photographs-test"
    classes = load_dataset("cifar10", "test").classes[5:]
    if not test.exists():
        write_photographs(test, per_class=40, classes=classes, split="test")
    if not root.exists():
        write_photographs(root / "train", per_class=40, classes=classes, first=40 * seed)
        (root / "test").symlink_to(test)
    return root


def rows() -> list[list[str]]:
    """For each task mean and standard deviation of top-1 by method, and how many seeds all have."""
    results = read()
    table = []
    for task, images in dict.fromkeys((r.task, r.images) for r in results):
        found = {
            method: [
                r.top1 for r in results if (r.task, r.images, r.method) == (task, images, method)
            ]
            for method in METHODS
        }
        n = min(map(len, found.values()))
        if n:
            scores = [_score(top1[:n]) for top1 in found.values()]
            table.append([task, f"{images:,}", *scores, str(n)])
    return table


def _score(top1: list[float]) -> str:
    deviation = f" ± {np.std(top1, ddof=1):.2f}" if len(top1) > 1 else ""
    return f"{np.mean(top1):.2f}{deviation}"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"benchmarks.finetuning: {error}") from error
