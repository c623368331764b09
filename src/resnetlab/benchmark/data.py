"""Images a second of the data: loading, augmenting, decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.benchmark.records import DataRate
from resnetlab.benchmark.samples import PHOTO, random_file
from resnetlab.benchmark.timing import rate_fields, repeat, require_positive
from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import available_cores
from resnetlab.data.augment import cutout, random_crop, random_flip
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.dataset import Dataset
from resnetlab.data.images import normalize, read_image
from resnetlab.files import user_path
from resnetlab.preprocessing import Preprocessing
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import get_recipe
from resnetlab.training.plan import make_plan
from resnetlab.training.step import make_batch
from resnetlab.weights.usual import IMAGENET


@check_types
def benchmark_data(
    dataset: str = "cifar10",
    batch_sizes: Sequence[int] = (128,),
    *,
    recipe: str | Recipe = "cifar10-quick",
    data_dir: str | Path | None = None,
    repeats: int = 50,
    seconds: float = 2.0,
) -> list[DataRate]:
    """Loading a data set from the cache, making training batches of it, decoding JPEG files.

    Each row takes ``repeats`` repetitions, fewer (but three) if they last longer than ``seconds``.
    Raises UserError, one sentence, for a name or value that cannot work.
    """
    require_positive(repeats=repeats, seconds=seconds)
    recipe = replace(get_recipe(recipe), early_size=None)  # images of full size
    load = partial(
        load_dataset, dataset, "train+val", data_dir=user_path(data_dir) if data_dir else None
    )
    data = load()

    def row(what: str, work: Callable[[], Any], batch_size: int, repeats: int) -> DataRate:
        times = repeat(work, repeats=repeats, seconds=seconds)
        return DataRate(what=what, **rate_fields(times, batch_size))

    source = data_dir or "the cache"
    rows = [row(f"load {dataset} from {source}", load, len(data), min(repeats, 3))]
    for batch_size in batch_sizes:
        require_positive(batch_size=batch_size)
        jobs = _batch_jobs(data, recipe, batch_size) | _decode_jobs(batch_size)
        rows += [row(what, work, batch_size, repeats) for what, work in jobs.items()]
    return rows


def _batch_jobs(data: Dataset, recipe: Recipe, batch_size: int) -> dict[str, Callable[[], Any]]:
    """The parts of a training batch, each on its own, and the whole."""
    layout = Execution(layout="channels_last")
    plan = make_plan(replace(recipe, execution="channels_last"), data)
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(len(data), (batch_size,), generator=generator)
    images, _ = data.batch(indices)

    def pick() -> tuple[Tensor, Tensor]:
        """Other images each time: the last ones lie in the processor's caches."""
        return data.batch(torch.randint(len(data), (batch_size,), generator=generator))

    return {
        "pick a batch": pick,
        "crop": partial(random_crop, images, 4, generator),
        "flip": partial(random_flip, images, generator),
        "cutout": partial(cutout, images, data.preprocessing.size // 2, generator),
        "normalise": partial(
            normalize, images, data.preprocessing, memory_format=layout.memory_format
        ),
        f"whole batch of {recipe.name}": partial(make_batch, plan, indices, epoch=0, step=0),
    }


def _decode_jobs(batch_size: int) -> dict[str, Callable[[], Any]]:
    """JPEG of the usual size, to 224: one thread and all threads."""
    photo = random_file(*PHOTO)
    threads = available_cores()
    pool = ThreadPoolExecutor(threads)

    imagenet = Preprocessing(mean=IMAGENET[0], std=IMAGENET[1], size=224)

    def decode(_: int) -> Tensor:
        return read_image(photo, imagenet)

    return {
        "decode JPEG, 1 thread": lambda: list(map(decode, range(batch_size))),
        f"decode JPEG, {threads} threads": lambda: list(pool.map(decode, range(batch_size))),
    }
