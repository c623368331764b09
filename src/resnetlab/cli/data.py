"""``resnetlab data``: fetch a data set, look at it, measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import DataDir, Json

DatasetName = Annotated[str, Parameter(help="cifar10 or fashion-mnist", metavar="NAME")]


def fetch(name: DatasetName, /, *, data_dir: DataDir = None) -> None:
    """Fetch a data set into the cache, from the first source that answers, and check it."""
    with console.waiting("loading PyTorch"):
        from resnetlab.data.catalogue import fetch

    console.print_line(fetch(name, data_dir=data_dir))


def stats(name: DatasetName, /, *, data_dir: DataDir = None, json: Json = False) -> None:
    """Compute mean and standard deviation of each channel over the training images."""
    with console.waiting("loading PyTorch"):
        from resnetlab.data.catalogue import load_dataset
        from resnetlab.data.dataset import dataset_statistics

    dataset = load_dataset(name, "train+val", data_dir=data_dir)
    mean, std = dataset_statistics(dataset)
    if json:
        console.print_json({"dataset": name, "n": len(dataset), "mean": mean, "std": std})
        return
    print(f"{name}: {len(dataset):,} training images, pixels scaled to 0..1")
    print("mean", *(f"{value:.8f}" for value in mean))
    print("std ", *(f"{value:.8f}" for value in std))


def clean(
    *,
    cache: Annotated[
        Path | None,
        Parameter(
            help="folder that was given to train as --cache; default: the cache of data sets"
        ),
    ] = None,
) -> None:
    """Remove the decoded images that trainings have kept; the images themselves stay."""
    from resnetlab.data.cache import clean_pixels, pixel_folder

    freed = clean_pixels(cache) / 1e6
    console.print_line(f"removed {freed:,.0f} MB of decoded images from {pixel_folder(cache)}")


def show(
    name: DatasetName,
    /,
    *,
    out: Annotated[Path, Parameter(help="file to draw to: .png, .svg or .pdf")] = Path(
        "samples.png"
    ),
    split: Annotated[Literal["train", "test"], Parameter(help="images to draw from")] = "train",
    data_dir: DataDir = None,
) -> None:
    """Draw a labelled grid of images, a row for each class."""
    with console.waiting("loading PyTorch"):
        from resnetlab.data.catalogue import load_dataset
        from resnetlab.plots.images import plot_samples

    whole = "train+val" if split == "train" else split
    console.print_line(plot_samples(load_dataset(name, whole, data_dir=data_dir), out))
