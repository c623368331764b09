"""``resnetlab predict``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.predictions import Format, print_predictions
from resnetlab.cli.shared import (
    Backend,
    Classes,
    Execution,
    Mean,
    MinConfidence,
    ModelName,
    ModelOverrides,
    Network,
    Std,
    load,
)


def predict(
    run: Network,
    /,
    *images: Annotated[
        str, Parameter(help="an image file or a folder of images, or several", required=True)
    ],
    topk: Annotated[int, Parameter(help="classes to name for each image")] = 5,
    format: Annotated[Format, Parameter(help="how to print them")] = "table",
    out: Annotated[
        Path | None,
        Parameter(
            help="write them to FILE.csv, .jsonl or .parquet: any number of images, resumed by the "
            "same command, shared under torchrun",
            metavar="FILE",
        ),
    ] = None,
    min_confidence: MinConfidence = None,
    model: ModelName = None,
    model_overrides: ModelOverrides = {},  # noqa: B006
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    backend: Backend = None,
    execution: Execution = "auto",
) -> None:
    """Classify image files, or all images in folders."""
    if out is not None:
        _to_file(
            run,
            images,
            out,
            topk=topk,
            min_confidence=min_confidence,
            backend=backend,
            execution=execution,
            model=model,
            model_overrides=model_overrides,
            mean=mean,
            std=std,
            classes=classes,
        )
        return
    with console.waiting("loading PyTorch"):
        from resnetlab.data.find import find_images
        from resnetlab.inference.predictor import Predictor

    checkpoint = load(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    predictor = Predictor(
        checkpoint, backend=backend, execution=execution, min_confidence=min_confidence
    )
    found = find_images(images)
    predictions = predictor.predict(found, topk=topk)
    if format == "table" or not sys.stdout.isatty():  # a bar would break JSON's lines
        predictions = console.progress(predictions, len(found), "predicting")
    with closing(predictions):  # on Ctrl-C the bar goes before anything else is printed
        failed = print_predictions(
            predictions,
            format,
            names=[str(path) for path in found],
            classes=predictor.backend.classes,
            topk=topk,
        )
    if failed:
        raise SystemExit(1)


def _to_file(run: str, images: Sequence[str], out: Path, **options: Any) -> None:
    with console.waiting("loading PyTorch"):
        from resnetlab.inference.job import predict_to_file

    done = predict_to_file(run, images, out, **options)
    if not done.complete:
        return
    failed = f", {done.failed:,} of them could not be read" if done.failed else ""
    console.print_line(f"{done.path}: {done.images:,} images{failed}")
    if done.failed:
        raise SystemExit(1)
