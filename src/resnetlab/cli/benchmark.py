"""``resnetlab benchmark``: images a second of each part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import DataDir, Execution, ImageSize, Json, Overrides

if TYPE_CHECKING:
    from resnetlab.benchmark import Row

Models = Annotated[
    tuple[str, ...], Parameter(help="names from `resnetlab models`", metavar="NAME ...")
]
BatchSizes = Annotated[tuple[int, ...], Parameter(help="images at once, a row for each")]


def training(
    *,
    models: Models = ("resnet20",),
    batch_sizes: BatchSizes = (128,),
    execution: Execution = "auto",
    recipe: Annotated[
        str, Parameter(help="its optimizer and augmentation", metavar="RECIPE")
    ] = "cifar10-quick",
    override: Overrides = {},  # noqa: B006
    steps: Annotated[int, Parameter(help="steps for each row; fewer if they take over 20 s")] = 20,
    json: Json = False,
) -> None:
    """Measure the training loop's own steps, beside what the machine can do.

    The share is of the operations that the network's definition needs.
    Execution winograd does fewer, and may pass 100 %.
    """
    from resnetlab.benchmark import benchmark_training

    rows = benchmark_training(
        *(models, batch_sizes),
        execution=execution,
        overrides=override,
        recipe=recipe,
        steps=steps,
    )
    _print_rows(rows, json)


def inference(
    *,
    models: Models = ("resnet20",),
    batch_sizes: BatchSizes = (1, 16),
    execution: Execution = "auto",
    image_size: ImageSize = None,
    folder: Annotated[
        Path | None, Parameter(help="images to read; default: made on the spot")
    ] = None,
    override: Overrides = {},  # noqa: B006
    repeats: Annotated[int, Parameter(help="runs of each row; fewer if they take over 10 s")] = 30,
    json: Json = False,
) -> None:
    """Measure inference on pixels, and on files: is the decoder or the network the limit?"""
    from resnetlab.benchmark import benchmark_files, benchmark_inference

    how: dict[str, Any] = {"execution": execution, "overrides": override}
    how["image_size"] = image_size
    rows = benchmark_inference(models, batch_sizes, **how, repeats=repeats)
    files = benchmark_files(models, **how, folder=folder)
    if json:
        _print_rows([*rows, *files], json)
        return
    _print_rows(rows, json)
    _print_rows(files, json)
    for row in files:
        print(
            f"{row.model}, {row.files}: limit: {row.limit} "
            f"(decoder alone {row.decoder_images_per_second:,.0f} images/s, "
            f"network alone {row.network_images_per_second:,.0f}, "
            f"together {row.images_per_second:,.0f})"
        )


def data(
    name: Annotated[str, Parameter(help="data set", metavar="NAME")] = "cifar10",
    /,
    *,
    batch_sizes: BatchSizes = (128,),
    recipe: Annotated[str, Parameter(help="its augmentation", metavar="RECIPE")] = "cifar10-quick",
    repeats: Annotated[int, Parameter(help="runs of each row; fewer if they take over 2 s")] = 50,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure loading a data set, making batches of it, decoding JPEG files."""
    from resnetlab.benchmark import benchmark_data

    rows = benchmark_data(name, batch_sizes, recipe=recipe, data_dir=data_dir, repeats=repeats)
    _print_rows(rows, json)


def _print_rows(rows: Sequence[Row], json: bool) -> None:
    from resnetlab.benchmark import describe, table

    if json:
        console.print_json(describe(rows))
        return
    headings, cells = table(rows)
    printed = console.table(*headings)
    for row in cells:
        printed.add_row(*row)
    console.print_table(printed)
