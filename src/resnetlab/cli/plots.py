"""``resnetlab plot`` and ``visualize``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from resnetlab.cli.shared import DataDir, ExactExecution, Out, Run


def plot(run: Run, /, *, out: Out = None) -> None:
    """Draw a run's loss, accuracy and learning rate over its epochs."""
    from resnetlab.plots.curves import plot_curves

    print(plot_curves(run, out))


def visualize(
    run: Run,
    /,
    *,
    n: Annotated[int, Parameter(help="number of images")] = 24,
    only: Annotated[Literal["all", "right", "wrong"], Parameter(help="which predictions")] = "all",
    split: Annotated[Literal["test", "val"], Parameter(help="images to take")] = "test",
    out: Out = None,
    data_dir: DataDir = None,
    execution: ExactExecution = "channels_last",
) -> None:
    """Draw images with their predictions: a blue tick if right, an orange cross if wrong."""
    from resnetlab.plots.images import visualize

    options = {"n": n, "only": only, "split": split, "out": out, "data_dir": data_dir}
    print(visualize(run, **options, execution=execution))
