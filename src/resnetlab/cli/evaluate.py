"""``resnetlab evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import (
    Backend,
    Classes,
    DataDir,
    DatasetName,
    ExactExecution,
    Json,
    Mean,
    ModelName,
    ModelOverrides,
    Network,
    Std,
    load,
)


def evaluate(
    run: Network,
    /,
    *,
    split: Annotated[Literal["test", "val"], Parameter(help="images to evaluate on")] = "test",
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    model: ModelName = None,
    model_overrides: ModelOverrides = {},  # noqa: B006
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    backend: Backend = None,
    execution: ExactExecution = "channels_last",
    tta: Annotated[
        Literal["none", "flip", "flip-shift"],
        Parameter(
            help="average the predictions for an image and its mirror image, or for both "
            "shifted by a pixel too"
        ),
    ] = "none",
    confusion: Annotated[
        Path | None, Parameter(help="draw which class is taken for which: .png, .svg or .pdf")
    ] = None,
    json: Json = False,
) -> None:
    """Evaluate a network: accuracy, loss, calibration, and a table of the classes."""
    with console.waiting("loading PyTorch"):
        from resnetlab.evaluation.evaluate import evaluate

    if confusion:
        from resnetlab.plots.style import check_format

        check_format(confusion, "confusion")  # before anything is computed
    checkpoint = load(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    result = evaluate(
        checkpoint,
        split=split,
        dataset=dataset,
        data_dir=data_dir,
        backend=backend,
        execution=execution,
        tta=tta,
    )
    if confusion:
        from resnetlab.plots.confusion import plot_confusion

        title = f"{result.dataset}, {result.split}"
        drawn = plot_confusion(result.confusion, result.classes, confusion, title=title)
        console.print_to_stderr(str(drawn))
    if json:
        console.print_json(result.to_dict())
        return
    print(f"{result.dataset}, {result.split}: {result.n:,} images")
    print(f"top-1 {result.top1:.2f} %   top-5 {result.top5:.2f} %   loss {result.loss:.4f}")
    print(f"calibration error {result.calibration_error:.2f} %")
    table = console.table("class", "precision %*", "recall %*", "F1 %*", "images*")
    for row in result.per_class():
        scores = [f"{row[key]:.2f}" for key in ("precision", "recall", "f1")]
        table.add_row(row["class"], *scores, f"{row['n']:,}")
    console.print_table(table)
