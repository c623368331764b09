"""What checkpoints cost: `python -m benchmarks.checkpoints`.

First a recipe as it is, with `checkpoint_minutes` at its default and a checkpoint after each epoch:
the share of its epochs' time that went into writing best.pt, last.pt, metrics and events, flushed
and read back. Then networks of three sizes: what one last.pt takes, and its share of the default
interval. The processor's other users slow both down alike; the disk's do not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from resnetlab.recipes.record import Recipe
from resnetlab.runs import Run
from resnetlab.training.job import train
from resnetlab.training.keeping import Keeper

NETWORKS = ("resnet20", "resnet50", "resnet152")


@contextmanager
def timed(*names: str) -> Iterator[dict[str, list[float]]]:
    """Seconds of each call of these methods of `Keeper` while the body runs."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    methods = {name: getattr(Keeper, name) for name in names}

    def timing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                seconds[name].append(time.perf_counter() - began)

        return call

    for name, method in methods.items():
        setattr(Keeper, name, timing(name, method))
    try:
        yield seconds
    finally:
        for name, method in methods.items():
            setattr(Keeper, name, method)


def whole_recipe(recipe: str, epochs: float, folder: Path) -> str:
    with timed("keep_epoch", "save") as seconds:
        began = time.perf_counter()
        history = train(recipe, epochs=epochs, out=folder / recipe).history
        whole = time.perf_counter() - began
    spent, trained = sum(map(sum, seconds.values())), sum(line["seconds"] for line in history)
    counts = f"{len(seconds['keep_epoch'])} after epochs, {len(seconds['save'])} within them"
    return (
        f"{recipe}, {epochs:g} epochs: {counts}; {spent:.2f} s of the {trained:.0f} s of its steps "
        f"({100 * spent / trained:.2f} %; of the whole command {whole:.0f} s)"
    )


def one_checkpoint(model: str, writes: int, folder: Path) -> str:
    """A line of the table: MB, seconds of a write, and its share of the default interval."""
    run, minutes = Run(folder / model), Recipe(model=model).checkpoint_minutes
    recipe = Recipe(
        model=model,
        dataset="cifar10-sample",
        execution="channels_last",
        batch_size=4,
        val_size=140,
        ema_decay=0.9,
        checkpoint_minutes=1e-9,
    )
    with timed("_save") as seconds:
        train(recipe, out=run.path, epochs=writes / 40)  # of 40 steps
    median = statistics.median(seconds["_save"])
    size = run.states.last_file.stat().st_size / 1e6
    share = 100 * median / (60 * minutes)
    spread = f"{median:.2f} ({min(seconds['_save']):.2f} to {max(seconds['_save']):.2f})"
    return f"| {model} | {size:,.0f} | {spread} | {len(seconds['_save'])} | {share:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints", description=__doc__)
    parser.add_argument("--recipe", default="cifar10-quick")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--writes", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a new one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        print(
            "\n| network, with EMA | last.pt, MB | seconds, median (range) | n | % of 5 minutes |"
            "\n| --- | --- | --- | --- | --- |"
        )
        for model in NETWORKS:
            print(one_checkpoint(model, options.writes, folder), flush=True)
        print(whole_recipe(options.recipe, options.epochs, folder), flush=True)


if __name__ == "__main__":
    main()
