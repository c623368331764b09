"""Where the decoded images of a training are kept, chosen and announced before the first step."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from resnetlab.compute.machine import available_memory
from resnetlab.console import Report
from resnetlab.data.augmentation import margin_size
from resnetlab.data.cache import Cache, pixel_folder
from resnetlab.data.dataset import Dataset, Subset
from resnetlab.data.encoded import EncodedDataset, fingerprint
from resnetlab.data.prefetch import in_threads
from resnetlab.files import WriteError
from resnetlab.recipes.record import Recipe

PROBED = 16
"""Images that are decoded to guess how much room all of them take."""
SPARED = 0.1
"""Share of the free room, on the disk or in memory, that is left to others."""


def keep_pixels(
    recipe: Recipe, train: Dataset, val: Dataset | None, report: Report
) -> tuple[Dataset, Dataset | None]:
    """Both data sets, with their decoded images kept where the recipe says, if there is room.

    ``report`` is told how much room they take, and where; or why they are decoded in every epoch.
    """
    source = source_of(train)
    if source is None or recipe.cache == "none":
        return train, val
    root = None if recipe.cache == "memory" else pixel_folder(recipe.cache)
    free = available_memory() if root is None else _free(root)
    cache = Cache(fingerprint(source), root, report)
    kept = cache.used
    # What is decoded to guess how much room is needed is kept already, unless there is none.
    trained = _with_cache(train, cache) if free else train
    try:
        needed = max(0, _bytes_needed(recipe, trained, val) - kept)
    except WriteError as error:
        if recipe.cache:
            raise
        report(f"{error.fault}: images are decoded anew in every epoch; name another `cache`")
        return train, val
    place = "memory" if root is None else root
    if needed > (1 - SPARED) * free:
        if not kept:
            cache.remove()
        report(
            f"decoded images would take {_size(needed)} in {place}, where {_size(free)} are free: "
            "they are decoded anew in every epoch; free some space, or name another `cache`"
        )
        return train, val
    if root is None:
        report(f"decoded images are kept in memory: about {_size(needed)}")
    elif needed:
        report(
            f"decoded images are kept in {place}: about {_size(needed)} more; "
            "`resnetlab data clean` removes them"
        )
    return trained, None if val is None else _with_cache(val, cache)


def _bytes_needed(recipe: Recipe, train: Dataset, val: Dataset | None) -> int:
    """Of the views that a training has of its images, each in the form in which it is kept."""
    size, channels = train.preprocessing.size, train.preprocessing.channels
    arranged, each = size * size * channels, float(size * size * channels)
    if recipe.resized_crop:
        spread = torch.linspace(0, len(train) - 1, min(PROBED, len(train))).long()
        probed = in_threads(lambda i: train.uncropped(i, margin_size(size)), spread.tolist())
        each = sum(image.numel() for image in probed) / len(probed)
    return round(len(train) * each) + (len(val) if val else 0) * arranged


def source_of(dataset: Dataset) -> EncodedDataset | None:
    """What a data set, or a part of one, is decoded from; None: it is not."""
    while isinstance(dataset, Subset):
        dataset = dataset.whole
    return dataset if isinstance(dataset, EncodedDataset) else None


def _with_cache(dataset: Any, cache: Cache) -> Any:
    if isinstance(dataset, Subset):
        return replace(dataset, whole=_with_cache(dataset.whole, cache))
    return replace(dataset, cache=cache)


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is or will be made; 0 where a cache cannot be."""
    if not hasattr(os, "preadv"):  # of Windows, whose files it could not read
        return 0
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def _size(number: float) -> str:
    """Bytes in words."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"
