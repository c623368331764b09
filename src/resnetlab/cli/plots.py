"""``resnetlab plot``, ``visualize``, ``explain`` and ``inspect``."""

from __future__ import annotations

from pathlib import Path
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
    SplitFile,
    Std,
    load,
)


def plot(
    *runs: Annotated[Path, Parameter(help="a run folder, or several", required=True)],
    out: Out = None,
) -> None:
    """Draw a run's loss, accuracy and learning rate over its epochs, or several runs' in one.

    Several are named by what differs between their recipes.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.plots.curves import plot_curves

    if len(runs) > 1:
        out = out or Path("curves.png")
    console.print_line(plot_curves(runs, out))


def visualize(
    run: Network,
    /,
    *,
    n: Annotated[int, Parameter(help="number of images")] = 24,
    only: Annotated[Literal["all", "right", "wrong"], Parameter(help="which predictions")] = "all",
    order: Annotated[
        Literal["random", "confident"],
        Parameter(help="at random, or the most confident first: of the wrong, the worst mistakes"),
    ] = "random",
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
    data |= {"execution": execution}
    console.print_line(visualize(checkpoint, n=n, only=only, order=order, out=out, **data))


def explain(
    run: Network,
    /,
    *images: Annotated[
        str, Parameter(help="an image file or a folder of images, or several", required=True)
    ],
    top: Annotated[int, Parameter(help="how many of the likeliest classes")] = 3,
    class_names: Annotated[
        tuple[str, ...] | None,
        Parameter(name="--class", help="classes to look for instead", metavar="NAME ..."),
    ] = None,
    stage: Annotated[
        str | None,
        Parameter(help="whose feature maps; default: the last that has places", metavar="NAME"),
    ] = None,
    out: Out = None,
    model: ModelName = None,
    model_overrides: ModelOverrides = {},  # noqa: B006
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
) -> None:
    """Draw where in images the network sees what it predicts (Grad-CAM)."""
    with console.waiting("loading PyTorch"):
        from resnetlab.plots.heatmaps import explain

    checkpoint = load(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    out = out or Path("explanation.png")
    options: dict[str, Any] = {"top": top, "classes": class_names or (), "stage": stage}
    console.print_line(explain(checkpoint, images, out=out, **options))


def inspect(
    *networks: Annotated[
        str,
        Parameter(
            help="a run folder, weights file or name of a network, or several", required=True
        ),
    ],
    show: Annotated[
        Literal["responses", "filters"],
        Parameter(help="how strongly each layer responds, or the filters of the first layer"),
    ] = "responses",
    images: Annotated[int, Parameter(help="test images whose responses are looked at")] = 500,
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    out: Out = None,
) -> None:
    """Draw what networks have inside: layer responses by depth, or first filters."""
    with console.waiting("loading PyTorch"):
        from resnetlab.plots.inside import inspect

    where: dict[str, Any] = {"dataset": dataset, "data_dir": data_dir, "out": out}
    console.print_line(inspect(networks, show=show, images=images, **where))
