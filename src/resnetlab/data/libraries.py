"""Data sets that other libraries know: ``torchvision:NAME`` and ``hf:NAME``."""

from __future__ import annotations

import difflib
import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnetlab.console import progress, waiting
from resnetlab.data.collection import SPLIT_NAMES, UNDIVIDED, Collection, sorted_classes
from resnetlab.data.table import ONE_LABEL
from resnetlab.errors import UserError, reason_of
from resnetlab.files import cache_home

TORCHVISION, HUGGING_FACE = "torchvision:", "hf:"

_SPLITS = ("train", "trainval", "val", "valid", "test")
"""What torchvision's data sets call their splits, in our order."""


@dataclass(frozen=True)
class Items:
    """Images that another library's data sets give, one data set a split."""

    read_of: tuple[Callable[[int], bytes], ...]
    """of each split, the encoded image with a number"""
    names: tuple[str, ...]
    """of the splits"""
    places: np.ndarray
    """number of the split, number in it: int64 (n, 2)"""

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> bytes:
        split, number = self.places[index].tolist()
        try:
            return self.read_of[split](number)
        except Exception as error:  # whatever the library or a broken file provokes
            raise UserError(f"cannot read {self.path_of(index)}: {reason_of(error)}.") from error

    def path_of(self, index: int) -> str:
        split, number = self.places[index].tolist()
        return f"{self.names[split]}/{number:06}"

    def stamps(self) -> np.ndarray:
        return np.zeros((len(self), 2), np.int64)  # these data sets do not change

    def chosen(self, indices: np.ndarray) -> Items:
        return Items(self.read_of, self.names, self.places[indices])


def read_torchvision(name: str, data_dir: Path | None) -> Collection:
    """A classification data set of torchvision, downloaded first if it can be."""
    from torchvision import datasets

    kind = name.removeprefix(TORCHVISION)
    known = [each for each in datasets.__all__ if _makes_images(getattr(datasets, each))]
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        raise UserError(
            f"torchvision has no classification data set {kind!r}"
            + (f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}.")
        )
    make = getattr(datasets, kind)
    root = data_dir or cache_home() / "torchvision"
    parts: dict[str, Any] = {}
    for split, options in _torchvision_splits(make):
        try:
            parts[split] = _opened(make, root, options)
        except ValueError:
            if "split" not in options:
                raise
            continue  # it has no split of that name
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{name} is not in {root} and cannot be downloaded ({reason_of(error)}); place its "
                "files there as torchvision documents it, or name their folder: `data_dir`."
            ) from error
    if not parts:
        raise UserError(f"{name} has no splits that we know.")
    if "trainval" in parts:
        parts.pop("train", None)
        parts.pop("val", None)
    return collected(
        name,
        {split: _image_reader(part) for split, part in parts.items()},
        {split: _targets(part, f"{name}, {split}") for split, part in parts.items()},
        getattr(next(iter(parts.values())), "classes", None),
    )


def _makes_images(kind: Any) -> bool:
    """Whether it is a data set of images and labels that takes a root folder."""
    if not inspect.isclass(kind):
        return False
    names = inspect.signature(kind).parameters
    known = "train" in names or "split" in names or "download" in names
    return "root" in names and known and "frames" not in str(names)


def _torchvision_splits(make: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    names = inspect.signature(make).parameters
    fixed = {"split": "balanced"} if "train" in names and "split" in names else {}  # EMNIST
    if "train" in names:
        yield from (("train", {"train": True} | fixed), ("test", {"train": False} | fixed))
    elif "split" in names:
        yield from ((split, {"split": split}) for split in _SPLITS)
    else:
        yield "all", {}


def _opened(make: Any, root: Path, options: dict[str, Any]) -> Any:
    """The data set from the files that are there, or else downloaded."""
    if "download" not in inspect.signature(make).parameters:
        return make(str(root), **options)
    try:
        return make(str(root), **options, download=False)
    except RuntimeError:
        root.mkdir(parents=True, exist_ok=True)
        with waiting(f"downloading {make.__name__}"):
            return make(str(root), **options, download=True)


def _image_reader(dataset: Any) -> Callable[[int], bytes]:
    return lambda number: _encoded(dataset[number][0])


def pixel_reader(images: np.ndarray) -> Callable[[int], bytes]:
    """Of uint8 (n, h, w) or (n, h, w, 3)."""
    return lambda number: _encoded(Image.fromarray(images[number]))


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    # PPM is written and read ten times as fast as PNG, but knows grey and RGB alone.
    image.save(file, "PPM" if image.mode in ("L", "RGB") else "PNG")
    return file.getvalue()


def _targets(dataset: Any, name: str) -> list[int]:
    """The labels; where they are not kept in a list, every image is looked at."""
    for attribute in ("targets", "labels", "_labels", "y"):
        labels = getattr(dataset, attribute, None)
        if labels is None or len(labels) != len(dataset):
            continue
        labels = [int(label) for label in labels]
        spread = np.linspace(0, len(dataset) - 1, min(5, len(dataset))).astype(int).tolist()
        if all(dataset[number][1] == labels[number] for number in spread):
            return labels
    found = []
    for number in progress(range(len(dataset)), len(dataset), f"reading the labels of {name}"):
        label = dataset[number][1]
        if not isinstance(label, int | np.integer):
            raise UserError(f"{name} has no class for each image, but {type(label).__name__}.")
        found.append(int(label))
    return found


def read_hugging_face(name: str) -> Collection:
    """A data set of the Hugging Face hub, or in a local folder of that layout."""
    try:
        import datasets
    except ImportError:
        raise UserError(f"{name} needs the package datasets: pip install datasets.") from None
    where = name.removeprefix(HUGGING_FACE)
    try:
        with waiting(f"loading {where}"):
            loaded: Any = datasets.load_dataset(where)
        parts: dict[str, Any] = {str(split): part for split, part in loaded.items()}
    except Exception as error:  # whatever the library, the network or a broken file provokes
        raise UserError(f"{name} cannot be loaded: {reason_of(error)}.") from error
    image, label = _features(name, next(iter(parts.values())).features, datasets)
    names = next(iter(parts.values())).features[label].names
    raw = {
        split: part.cast_column(image, datasets.Image(decode=False))
        for split, part in parts.items()
        if split.lower() in SPLIT_NAMES
    }

    def reader(part: Any) -> Callable[[int], bytes]:
        def read(number: int) -> bytes:
            item = part[number][image]
            return item["bytes"] if item["bytes"] else Path(item["path"]).read_bytes()

        return read

    return collected(
        name,
        {split: reader(part) for split, part in raw.items()},
        {split: list(part[label]) for split, part in raw.items()},
        names,
    )


def _features(name: str, features: Any, datasets: Any) -> tuple[str, str]:
    """The columns that hold images and classes."""
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not images:
        raise UserError(f"{name} has no column of images; it has {', '.join(features)}.")
    if labels:
        return images[0], labels[0]
    nested = [key for key, kind in features.items() if "ClassLabel" in repr(kind)]
    if nested:
        raise UserError(f"{name}: {nested[0]} holds several labels an image. {ONE_LABEL}")
    raise UserError(f"{name} has no column of classes; it has {', '.join(features)}.")


def collected(
    name: str,
    readers: dict[str, Callable[[int], bytes]],
    labels: dict[str, list[int]],
    classes: Sequence[str] | None,
) -> Collection:
    """One collection of the splits; classes without names are called by their numbers."""
    known = sorted({label for part in labels.values() for label in part})
    named = {n: str(classes[n]) if classes and n < len(classes) else str(n) for n in known}
    names = (
        tuple(named[number] for number in known) if classes else sorted_classes([*named.values()])
    )
    numbers = {label: names.index(text) for label, text in named.items()}
    short = name.partition(":")[2] or name
    counts = [len(part) for part in labels.values()]
    places = np.stack(
        [np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(n) for n in counts])],
        axis=1,
    )
    codes = [SPLIT_NAMES.get("train" if x == "trainval" else x.lower(), UNDIVIDED) for x in labels]
    return Collection(
        name=Path(short).name,
        place=name,
        samples=Items(tuple(readers.values()), tuple(f"{short}/{x}" for x in labels), places),
        names=names,
        labels=np.array([numbers[label] for part in labels.values() for label in part], np.int64),
        splits=np.repeat(np.array(codes, np.int8), counts),
    )
