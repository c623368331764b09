"""``resnetlab benchmark``: images a second of each part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from resnetlab import console
from resnetlab.cli.options import Arg
from resnetlab.cli.shared import DataDir, Execution, ImageSize, Json, Overrides

if TYPE_CHECKING:
    from resnetlab.benchmark import Row

Models = Annotated[tuple[str, ...], Arg("names from `resnetlab models`", "NAME ...")]
BatchSizes = Annotated[tuple[int, ...], Arg("images at once, a row for each", "N ...")]


def training(
    *,
    models: Models = ("resnet20",),
    batch_sizes: BatchSizes = (128,),
    execution: Execution = "auto",
    recipe: Annotated[str, Arg("its optimizer and augmentation", "RECIPE")] = "cifar10-quick",
    override: Overrides = {},  # noqa: B006
    steps: Annotated[int, Arg("steps for each row; fewer if they take over 20 s", "N")] = 20,
    json: Json = False,
) -> None:
    """Measure the training loop's own steps, beside what the machine can do.

    The share is of the operations that the network's definition needs: execution winograd does
    fewer, and may pass 100 %.
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
    folder: Annotated[Path | None, Arg("images to read; default: made on the spot", "DIR")] = None,
    override: Overrides = {},  # noqa: B006
    repeats: Annotated[int, Arg("runs of each row; fewer if they take over 10 s", "N")] = 30,
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
    name: Annotated[str, Arg("data set", "NAME")] = "cifar10",
    *,
    batch_sizes: BatchSizes = (128,),
    recipe: Annotated[str, Arg("its augmentation", "RECIPE")] = "cifar10-quick",
    repeats: Annotated[int, Arg("runs of each row; fewer if they take over 2 s", "N")] = 50,
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
