"""``resnetlab evaluate``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import DataDir, ExactExecution, Json, ModelName, Network


def evaluate(
    run: Network,
    /,
    *,
    split: Annotated[Literal["test", "val"], Parameter(help="images to evaluate on")] = "test",
    dataset: Annotated[
        str | None, Parameter(help="data set; default: the run's own", metavar="NAME")
    ] = None,
    data_dir: DataDir = None,
    model: ModelName = None,
    execution: ExactExecution = "channels_last",
    tta: Annotated[
        Literal["none", "flip", "flip-shift"],
        Parameter(
            help="average the predictions for an image and its mirror image, or for both "
            "shifted by a pixel too"
        ),
    ] = "none",
    json: Json = False,
) -> None:
    """Evaluate a network: accuracy, loss, and a table of the classes."""
    from resnetlab.evaluation.evaluate import evaluate
    from resnetlab.weights.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(run, model=model)
    if not checkpoint.recipe:
        console.print_origin(checkpoint.origin, *checkpoint.notes)
    result = evaluate(
        checkpoint, split=split, dataset=dataset, data_dir=data_dir, execution=execution, tta=tta
    )
    if json:
        console.print_json(result.to_dict())
        return
    print(f"{result.dataset}, {result.split}: {result.n:,} images")
    print(f"top-1 {result.top1:.2f} %   top-5 {result.top5:.2f} %   loss {result.loss:.4f}")
    table = console.table("class", "precision %*", "recall %*", "F1 %*", "images*")
    for row in result.per_class():
        scores = [f"{row[key]:.2f}" for key in ("precision", "recall", "f1")]
        table.add_row(row["class"], *scores, f"{row['n']:,}")
    console.print_table(table)
