"""Photographs on their way to the network: torchvision's ImageFolder and DataLoader against ours.

Both give batches of normalised crops of 224 pixels, mirrored at random, from the same files. Ours
are measured in two states: in the first epoch images are decoded and kept, on the disk or in
memory, after that they are read back. `python -m benchmarks --only photographs` prints the tables.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.photographs import TELEPHONE, write_photographs
from benchmarks.turns import Contestant, Untimed
from resnetlab.compute.machine import return_memory
from resnetlab.data.prefetch import load_batches
from resnetlab.data.sampling import epoch_batches
from resnetlab.recipes.record import Recipe
from resnetlab.training.pixels import source_of
from resnetlab.training.plan import Plan, load_data, make_plan
from resnetlab.training.state import State
from resnetlab.training.step import augment, train_step

SIZE = 224
SMALLEST = 0.08
"""Share of the area that a crop shows at least: torchvision's default."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXECUTION = "bf16,channels_last,winograd"


PHOTOGRAPHS = {"12 megapixels": (TELEPHONE, 30), "400 pixels": ((400, 300), 400)}
"""What is loaded -> width and height, and how many of each class."""


def written(folder: str, what: str) -> str:
    """A folder of photographs in another; they are made once."""
    size, per_class = PHOTOGRAPHS[what]
    photographs = Path(folder) / what.replace(" ", "-")
    if not photographs.exists():
        write_photographs(photographs, per_class=per_class, size=size)
    return str(photographs)


def loaders(folder: Path, what: str, batch_size: int) -> list[Contestant]:
    """Data alone, without a network; ``what`` is a key of ``PHOTOGRAPHS``."""
    common = {"folder": str(folder), "what": what, "batch_size": batch_size}
    name, ours = "ImageFolder, DataLoader with 2 workers", "benchmarks.loading:resnetlab"
    torchvision = Contestant(name=name, function="benchmarks.loading:torchvision", arguments=common)
    return [
        torchvision,
        *(
            Contestant(
                name=f"resnetlab, {title}", function=ours, arguments=common | {"state": state}
            )
            for title, state in (
                ("first epoch", "fresh"),
                ("first epoch, kept in memory", "memory"),
                ("from the second epoch on", "filled"),
                ("without a cache", "none"),
            )
        ),
    ]


def steps(folder: Path, batch_size: int) -> list[Contestant]:
    """Training ResNet-18 with the data of the second epoch on, without it, and the data alone."""
    common = {"folder": str(folder), "batch_size": batch_size}
    names = {
        "step": "the same batch again and again",
        "both": "with batches from the cache",
        "data": "batches from the cache alone",
    }
    return [
        Contestant(
            name=name, function="benchmarks.loading:training", arguments=common | {"part": part}
        )
        for part, name in names.items()
    ]


def torchvision(*, folder: str, what: str, batch_size: int) -> Iterator[int]:
    """Epochs of the usual loader, its workers kept from one to the next."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(
        ImageFolder(written(folder, what), transform),
        batch_size,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        drop_last=True,
    )
    while True:
        for images, _ in loader:
            yield len(images)


def resnetlab(*, folder: str, what: str, batch_size: int, state: str) -> Iterator[int | Untimed]:
    """Epochs of the training loop's data; before each, a "fresh" cache or "memory" is emptied.

    That does not count: a first epoch finds no pixels of an earlier one.
    """
    cache = state if state in ("memory", "none") else str(Path(folder) / f"cache-{state}")
    plan = _plan(written(folder, what), batch_size, cache)
    plan.execution.set_up()  # as a training does: freed memory is kept
    decoded = source_of(plan.data)
    assert decoded is not None
    assert (decoded.cache is None) == (state == "none"), "there is no room for the cache"
    for epoch in itertools.count():
        if decoded.cache and state != "filled":
            began = time.perf_counter()
            decoded.cache.remove()
            return_memory()
            yield Untimed(time.perf_counter() - began)
        batches = _batches(plan, epoch)
        if state == "filled" and epoch == 0:
            for _ in batches:
                pass
        for inputs, _ in batches:
            yield len(inputs)


def training(*, folder: str, batch_size: int, part: str) -> Iterator[int]:
    """Steps of ResNet-18; of "data" only what comes before the step, of "step" only that."""
    photographs, cache = written(folder, "12 megapixels"), str(Path(folder) / "cache-steps")
    plan = _plan(photographs, batch_size, cache, execution=EXECUTION)
    plan.execution.set_up()
    state = State.create(plan)
    state.accelerate(plan.execution)
    state.model.train()
    kept: Any = None
    for epoch in itertools.count():
        for batch in _batches(plan, epoch):
            kept = kept or batch
            if epoch == 0:
                continue
            if part == "data":
                yield len(batch[0])
                continue
            while True:
                train_step(plan, state, state.model, *(kept if part == "step" else batch))
                yield len(kept[0])
                if part == "both":
                    break


def _plan(folder: str, batch_size: int, cache: str, **changes: Any) -> Plan:
    recipe = Recipe(
        model="resnet18",
        dataset=folder,
        val_size=0,
        test_size=0,
        image_size=SIZE,
        mean=MEAN,
        std=STD,
        resized_crop=SMALLEST,
        batch_size=batch_size,
        cache=cache,
        **{"execution": "channels_last", "epochs": 100, **changes},
    )
    return make_plan(recipe, *load_data(recipe, lambda line: None))


def _batches(plan: Plan, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What the steps of an epoch are given."""
    indices = epoch_batches(len(plan.data), plan.recipe.batch_size, seed=0, epoch=epoch)

    def views(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return plan.augmentation.load(plan.data, chosen, epoch)

    for step, (chosen, batch) in enumerate(load_batches(plan.data, indices, views)):
        yield augment(plan, chosen, *batch, epoch=epoch, step=step)
