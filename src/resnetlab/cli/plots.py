"""``resnetlab plot`` and ``visualize``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import (
    Classes,
    DataDir,
    DatasetName,
    ExactExecution,
    Mean,
    ModelName,
    ModelOverrides,
    Network,
    Out,
    Run,
    SplitFile,
    Std,
    load,
)


def plot(run: Run, /, *, out: Out = None) -> None:
    """Draw a run's loss, accuracy and learning rate over its epochs."""
    with console.waiting("loading PyTorch"):
        from resnetlab.plots.curves import plot_curves

    console.print_line(plot_curves(run, out))


def visualize(
    run: Network,
    /,
    *,
    n: Annotated[int, Parameter(help="number of images")] = 24,
    only: Annotated[Literal["all", "right", "wrong"], Parameter(help="which predictions")] = "all",
    split: Annotated[Literal["test", "val"], Parameter(help="images to take")] = "test",
    out: Out = None,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    split_file: SplitFile = None,
    execution: ExactExecution = "channels_last",
    model: ModelName = None,
    model_overrides: ModelOverrides = {},  # noqa: B006
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
) -> None:
    """Draw images with their predictions: a blue tick if right, an orange cross if wrong."""
    with console.waiting("loading PyTorch"):
        from resnetlab.plots.images import beside, visualize

    checkpoint = load(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    data: dict[str, Any] = {"split": split, "dataset": dataset, "data_dir": data_dir}
    data |= {"split_file": split_file}
    out = out or beside(run)
    drawn = visualize(checkpoint, n=n, only=only, out=out, execution=execution, **data)
    console.print_line(drawn)
