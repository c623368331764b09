"""``resnetlab predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import Execution, ModelName, Network


def predict(
    run: Network,
    /,
    *images: Annotated[
        Path, Parameter(help="an image file or a folder of images, or several", required=True)
    ],
    topk: Annotated[int, Parameter(help="classes to name for each image")] = 5,
    format: Annotated[
        Literal["table", "json", "csv"], Parameter(help="how to print them")
    ] = "table",
    model: ModelName = None,
    execution: Execution = "auto",
) -> None:
    """Classify image files, or all images in folders."""
    from resnetlab.inference.predictor import predict, print_predictions
    from resnetlab.weights.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(run, model=model)
    if not checkpoint.recipe:
        console.print_origin(checkpoint.origin, *checkpoint.notes)
    predictions = predict(checkpoint, images, topk=topk, execution=execution)
    print_predictions(predictions, format)
    if any(prediction.error for prediction in predictions):
        raise SystemExit(1)
