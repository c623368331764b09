"""``resnetlab evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    SplitFile,
    Std,
    load,
)

if TYPE_CHECKING:
    from resnetlab.evaluation.result import Evaluation


def evaluate(
    run: Network,
    /,
    *,
    split: Annotated[Literal["test", "val"], Parameter(help="images to evaluate on")] = "test",
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    split_file: SplitFile = None,
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
    per_image: Annotated[
        Path | None,
        Parameter(help="write the prediction for each image to this CSV file", metavar="FILE"),
    ] = None,
    corruptions: Annotated[
        bool, Parameter(help="evaluate on corrupted images too: noise, blur, weather, compression")
    ] = False,
    corruption_images: Annotated[
        int, Parameter(help="images that are corrupted, each in 75 ways; 0: all")
    ] = 1000,
    confusion: Annotated[
        Path | None, Parameter(help="draw which class is taken for which: .png, .svg or .pdf")
    ] = None,
    figures: Annotated[
        Path | None,
        Parameter(help="folder for pictures of it all: classes, confusions, reliability"),
    ] = None,
    json: Json = False,
) -> None:
    """Evaluate a network: accuracy with its interval, confidence, and a table of the classes.

    In a run folder, the results are kept in evaluation.json.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.compute.distributed import is_main
        from resnetlab.evaluation.evaluate import evaluate, keep

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
    where: dict[str, Any] = {"split": split, "dataset": dataset, "data_dir": data_dir}
    where |= {"split_file": split_file, "backend": backend, "execution": execution}
    result = evaluate(checkpoint, tta=tta, per_image=per_image, **where)
    values, robustness = result.to_dict(), None
    if corruptions:
        from resnetlab.evaluation.robustness import evaluate_corruptions

        robustness = evaluate_corruptions(checkpoint, images=corruption_images, **where).to_dict()
    if not is_main():
        return
    if dataset is None:
        keep(run, result.key, values)
        if robustness:
            keep(run, f"{split}, corruptions", robustness)
    if confusion or figures:
        _draw(values, robustness, confusion, figures)
    if json:
        console.print_json(values | ({"corruptions": robustness} if robustness else {}))
        return
    _print(result)
    if robustness:
        _print_corruptions(robustness)


def _draw(
    values: dict[str, Any],
    robustness: dict[str, Any] | None,
    confusion: Path | None,
    folder: Path | None,
) -> None:
    """The pictures that are asked for; their paths go to stderr."""
    from resnetlab.plots.evaluation import evaluation_figures
    from resnetlab.plots.style import write_figure

    drawn = evaluation_figures(values, robustness)
    if confusion:
        console.print_to_stderr(str(write_figure(drawn["confusion"], confusion)))
    if folder:
        for name, figure in drawn.items():
            console.print_to_stderr(str(write_figure(figure, folder / f"{name}.png")))


def _print(result: Evaluation) -> None:
    from resnetlab.evaluation.calibration import remark

    print(f"{result.dataset}, {result.split}: {result.n:,} images; intervals are of 95 %")
    for name, value, (low, high) in (
        ("top-1", result.top1, result.top1_interval),
        ("top-5", result.top5, result.top5_interval),
        ("balanced accuracy", result.balanced_accuracy, result.balanced_accuracy_interval),
    ):
        print(f"{name} {value:.2f} % ({low:.2f} to {high:.2f})")
    loss, error = f"loss {result.loss:.4f}", f"calibration error {result.calibration_error:.2f} %"
    if result.temperature != 1:
        after = f"; after the temperature {result.temperature:.3f}:"
        loss += f"{after} {result.tempered_loss:.4f}"
        error += f"{after} {result.tempered_calibration_error:.2f} %"
    print(loss)
    print(error)
    if said := remark(result.temperature):
        print(said)
    surest = [point for point in result.selective if point["coverage"] in (90, 80, 50)]
    parts = [f"{point['coverage']} %: {point['accuracy']:.2f} %" for point in surest]
    print(f"accuracy of the surest {', '.join(parts)}")
    if rejected := result.none_of_these:
        print(
            f'"none of these" below a confidence of {rejected["threshold"]:.1f} %: '
            f"{rejected['rejected_right']:.1f} % of the right predictions, "
            f"{rejected['rejected_wrong']:.1f} % of the wrong ones; "
            f"{rejected['accuracy_of_the_rest']:.2f} % of the rest are right"
        )
    table = console.table("class", "recall %*", "interval*", "precision %*", "F1 %*", "images*")
    for row in result.per_class():
        low, high = row["recall_interval"]
        interval = f"{low:.1f} to {high:.1f}" if row["n"] else ""
        scores = [f"{row[key]:.2f}" for key in ("precision", "f1")]
        table.add_row(row["class"], f"{row['recall']:.2f}", interval, *scores, f"{row['n']:,}")
    console.print_table(table)


def _print_corruptions(found: dict[str, Any]) -> None:
    low, high = found["top1_interval"]
    print(
        f"corrupted: {found['n']:,} images, each in 75 ways: mean top-1 {found['top1']:.2f} % "
        f"({low:.2f} to {high:.2f}); clean {found['clean']:.2f} %, a drop of {found['drop']:.2f}"
    )
    severities = [f"severity {severity} %*" for severity in found["severities"]]
    table = console.table("corruption", "mean %*", "drop*", *severities)
    for row in found["corruptions"]:
        cells = [f"{value:.2f}" for value in (row["top1"], row["drop"], *row["by_severity"])]
        table.add_row(row["name"], *cells)
    console.print_table(table)
