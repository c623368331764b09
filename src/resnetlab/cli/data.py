"""``resnetlab data``: fetch a data set, look at it, measure it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import DataDir, Json, SplitFile

if TYPE_CHECKING:
    from resnetlab.data.dataset import Dataset
    from resnetlab.data.findings import Finding

DatasetName = Annotated[
    str,
    Parameter(
        help="cifar10, cifar100, cifar100-coarse, mnist, fashion-mnist, torchvision:NAME, hf:NAME, "
        "or the path of a folder, a table (.csv, .tsv, .jsonl) or tar shards",
        metavar="NAME",
    ),
]


def fetch(
    name: Annotated[
        str,
        Parameter(
            help="cifar10, cifar100, cifar100-coarse, mnist or fashion-mnist", metavar="NAME"
        ),
    ],
    /,
    *,
    data_dir: DataDir = None,
) -> None:
    """Fetch a data set into the cache, from the first source that answers, and check it."""
    with console.waiting("loading PyTorch"):
        from resnetlab.data.catalogue import fetch

    console.print_line(fetch(name, data_dir=data_dir))


def stats(name: DatasetName, /, *, data_dir: DataDir = None, json: Json = False) -> None:
    """Count the images of each class, and compute mean and standard deviation of their channels.

    Of images for training; the user's own are counted as a network sees them.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.data.dataset import dataset_statistics

    dataset = _undivided(name, data_dir)
    mean, std = dataset_statistics(dataset)
    counts = dict(zip(dataset.classes, _counts(dataset), strict=True))
    if json:
        values = {"dataset": name, "n": len(dataset), "size": dataset.preprocessing.size}
        console.print_json(values | {"mean": mean, "std": std, "classes": counts})
        return
    size = dataset.preprocessing.size
    print(f"{name}: {len(dataset):,} training images as {size} x {size} pixels, scaled to 0..1")
    print("mean", *(f"{value:.8f}" for value in mean))
    print("std ", *(f"{value:.8f}" for value in std))
    table = console.table("class", "images*")
    for label, count in counts.items():
        table.add_row(label, f"{count:,}")
    console.print_table(table)


def _counts(dataset: Dataset) -> list[int]:
    return dataset.labels.bincount(minlength=len(dataset.classes)).tolist()


def _undivided(name: str, data_dir: Path | None) -> Dataset:
    """The images for training; of data without splits, all: nothing is drawn to look at them."""
    from resnetlab.data.catalogue import load_dataset

    return load_dataset(name, "train+val", data_dir=data_dir, val_size=0, test_size=0)


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
    augmented: Annotated[
        bool, Parameter(help="as training sees them, each image in several epochs")
    ] = False,
    recipe: Annotated[
        str, Parameter(help="recipe whose augmentation is drawn", metavar="RECIPE")
    ] = "cifar10-quick",
    data_dir: DataDir = None,
) -> None:
    """Draw a labelled grid of images, a row for each class."""
    with console.waiting("loading PyTorch"):
        from resnetlab.data.catalogue import load_dataset
        from resnetlab.plots.images import plot_samples

    if not augmented:
        whole = _undivided(name, data_dir)
        if split == "test":
            whole = load_dataset(name, split, data_dir=data_dir)
        console.print_line(plot_samples(whole, out))
        return
    from resnetlab.recipes.table import get_recipe
    from resnetlab.training.views import training_views

    views = training_views(get_recipe(recipe, dataset=name, data_dir=data_dir, val_size=0))
    console.print_line(plot_samples(views, out))


def check(
    name: DatasetName,
    /,
    *,
    run: Annotated[
        str | None,
        Parameter(help="a run on these images, by which suspicious labels are found"),
    ] = None,
    data_dir: DataDir = None,
    split_file: SplitFile = None,
    sheet: Annotated[
        Path | None, Parameter(help="draw the images of each finding: .png, .svg or .pdf")
    ] = None,
    json: Json = False,
) -> None:
    """Look for what would mislead a training: bad files, duplicates, odd images, wrong labels.

    Each image is decoded once. Exit code 1 if a network trained on them, or its accuracy, would be
    wrong.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.data import check as checks
        from resnetlab.data.catalogue import read_collection
        from resnetlab.data.manifest import divided_by

    if sheet:
        from resnetlab.plots.style import check_format

        check_format(sheet, "sheet")  # before anything is decoded
    whole = read_collection(name, data_dir=data_dir)
    if split_file:
        whole = divided_by(whole, split_file)
    findings = checks.check(whole)
    if run:
        from resnetlab.evaluation.labels import suspicious_labels_finding

        findings += suspicious_labels_finding(run, name, whole, data_dir=data_dir)
    misleads = any(finding.severity == "misleads" for finding in findings)
    if sheet:
        from resnetlab.plots.sheet import plot_findings

        title = f"{whole.name}: {len(whole):,} images"
        drawn = plot_findings(findings, whole.samples, sheet, title=title)
        console.print_to_stderr(str(drawn) if drawn else "no finding has images to draw")
    if json:
        values = {"dataset": name, "n": len(whole), "misleads": misleads}
        listed = [finding.to_dict() for finding in findings]
        console.print_json(values | {"classes": checks.counts(whole), "findings": listed})
    else:
        _print_check(checks.counts(whole), findings)
    if misleads:
        raise SystemExit(1)


def _print_check(rows: list[dict[str, Any]], findings: list[Finding]) -> None:
    table = console.table("class", *(f"{key}*" for key in rows[0] if key != "class"))
    for row in rows:
        table.add_row(row["class"], *(f"{n:,}" for key, n in row.items() if key != "class"))
    console.print_table(table)
    for finding in findings:
        console.print_line(f"{finding.severity}: {finding.text}; {finding.remedy}.")
    if not findings:
        print("nothing was found")
