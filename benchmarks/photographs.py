"""Photographs as telephones take them, made of CIFAR-10's images: a class a folder, JPEG with EXIF.

`python -m benchmarks.photographs FOLDER --per-class 20` writes FOLDER/CLASS/*.jpg, each of 12
megapixels and 2.7 MB: an image of CIFAR-10 enlarged, with a sensor's noise; every third is taken
upright and stored on its side, as telephones do. Without noise such a file would be a sixth as
large, and decode faster than any photograph.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from resnetlab.console import progress
from resnetlab.data.catalogue import load_dataset

TELEPHONE = (4032, 3024)
"""Width and height of 12 megapixels."""
TURNS = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how an upright image is turned to be stored with it."""
FAULTS = (
    *("truncated", "empty", "text", "copy in another class", "smaller copy in another class"),
    *("wrong label", "greyscale", "long and narrow", "tiny"),
)
"""What ``plant_faults`` does to a folder, in its order."""


def write_photographs(
    folder: Path,
    *,
    per_class: int,
    split: Literal["train", "test"] = "train",
    classes: Sequence[str] | None = None,
    first: int = 0,
    size: tuple[int, int] = TELEPHONE,
    noise: float = 4.5,
    quality: int = 90,
) -> list[Path]:
    """Write FOLDER/CLASS/CLASS-NUMBER.jpg and return the paths, class by class.

    Args:
        folder: Made if it is not there.
        per_class: Photographs of each class.
        split: Of CIFAR-10, whose images they show.
        classes: Some of CIFAR-10's; default: all ten.
        first: Which image of each class comes first, so that two folders may share none.
        size: Width and height in pixels; of every third photograph, taken upright, swapped.
        noise: Standard deviation of the sensor's noise, in values of 0 to 255; 4.5 makes files of
            2.7 MB from 12 megapixels.
        quality: Of the JPEG file.
    """
    data = load_dataset("cifar10", "train+val" if split == "train" else "test")
    jobs = []
    for label, name in enumerate(data.classes):
        if classes is None or name in classes:
            chosen = (data.labels == label).nonzero().flatten()[first : first + per_class]
            (folder / name).mkdir(parents=True, exist_ok=True)
            jobs += [(int(index), folder / name / f"{name}-{index:05}.jpg") for index in chosen]

    def write(job: tuple[int, Path]) -> Path:
        index, path = job
        (image,), _ = data.batch(data.labels.new_tensor([index]))
        photograph(image, index, size=size, noise=noise).save(
            path, quality=quality, exif=exif(index)
        )
        return path

    with ThreadPoolExecutor(2) as pool:
        return list(progress(pool.map(write, jobs), len(jobs), f"writing photographs to {folder}"))


def photograph(image: Tensor, number: int, *, size: tuple[int, int], noise: float) -> Image.Image:
    """An image, uint8 (3, 32, 32), as large as a photograph, turned as ``exif`` will say."""
    turn = TURNS[orientation(number)]
    enlarged = Image.fromarray(image.permute(1, 2, 0).numpy())
    sides = size[::-1] if orientation(number) in (6, 8) else size
    enlarged = enlarged.resize(sides, Image.Resampling.BICUBIC)
    pixels = np.asarray(enlarged)
    if noise:
        shift = np.random.default_rng(number).integers(1 << 20)
        grain = np.resize(np.roll(_grain(noise), shift), pixels.shape[:2])
        pixels = np.clip(pixels.astype(np.int16) + grain[..., None], 0, 255).astype(np.uint8)
    lying = Image.fromarray(pixels)
    return lying.transpose(turn) if turn is not None else lying


def orientation(number: int) -> int:
    """Of six photographs three lie as they are, one upside down and one on each side."""
    return (1, 6, 1, 8, 1, 3)[number % 6]


def exif(number: int) -> Image.Exif:
    """What a telephone writes beside the pixels."""
    values = Image.Exif()
    values[ExifTags.Base.Orientation] = orientation(number)
    values[ExifTags.Base.Make], values[ExifTags.Base.Model] = "resnetlab", "CIFAR-10, enlarged"
    taken = datetime(2026, 1, 1) + timedelta(minutes=number)
    values[ExifTags.Base.DateTime] = taken.strftime("%Y:%m:%d %H:%M:%S")
    return values


@cache
def _grain(noise: float) -> np.ndarray:
    """Noise for four million pixels, int16; longer than that, it repeats."""
    values = np.random.default_rng(0).normal(0, noise, (1 << 22) + 1021)
    return values.round().astype(np.int16)


def plant_faults(folder: Path) -> dict[str, Path]:
    """Damage photographs of a folder of classes as real ones are: fault -> the file that has it.

    Needs two classes of ten photographs; the faults are those of ``FAULTS``, each once.
    """
    first, second = sorted(path for path in folder.iterdir() if path.is_dir())[:2]
    ours = iter(sorted(first.iterdir()))
    return dict(zip(FAULTS, _plant(ours, first, second), strict=True))


def _plant(ours: Iterator[Path], first: Path, second: Path) -> Iterator[Path]:
    truncated = next(ours)
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    yield truncated
    empty = next(ours)
    empty.write_bytes(b"")
    yield empty
    text = next(ours)
    text.write_text("<html><body>404: no such photograph</body></html>\n")
    yield text
    twin = next(ours)
    (second / f"copy-of-{twin.name}").write_bytes(twin.read_bytes())
    yield second / f"copy-of-{twin.name}"
    smaller = next(ours)
    _edit(smaller, second / f"small-{smaller.name}", lambda image: image.reduce(3))
    yield second / f"small-{smaller.name}"
    wrong = next(ours)
    yield wrong.rename(second / wrong.name)
    for edit in (
        lambda image: image.convert("L"),
        lambda image: image.crop((0, 0, image.width, max(1, image.width // 40))),
        lambda image: image.reduce(max(1, image.width // 12)),
    ):
        path = next(ours)
        _edit(path, path, edit)
        yield path


def _edit(source: Path, target: Path, edit: Callable[[Image.Image], Image.Image]) -> None:
    with Image.open(source) as image:
        kept = image.getexif()
        edited = edit(image)
    edited.save(target, quality=90, exif=kept)


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.photographs", description=__doc__
    )
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--per-class", type=int, default=20)
    arguments.add_argument("--classes", nargs="+", help="some of CIFAR-10's; default: all ten")
    arguments.add_argument(
        "--first", type=int, default=0, help="which image of a class comes first"
    )
    arguments.add_argument("--split", choices=("train", "test"), default="train")
    arguments.add_argument("--size", type=int, nargs=2, default=TELEPHONE, metavar=("W", "H"))
    arguments.add_argument("--noise", type=float, default=4.5, help="0: none, and small files")
    arguments.add_argument("--faults", action="store_true", help="damage some of them")
    options = arguments.parse_args()
    paths = write_photographs(
        options.folder,
        per_class=options.per_class,
        split=options.split,
        classes=options.classes,
        first=options.first,
        size=tuple(options.size),
        noise=options.noise,
    )
    print(f"{len(paths)} photographs, {sum(p.stat().st_size for p in paths) / 1e6:,.0f} MB")
    if options.faults:
        for fault, path in plant_faults(options.folder).items():
            print(f"  {fault}: {path}")


if __name__ == "__main__":
    main()
