"""``resnetlab compare-runs``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import DataDir, DatasetName, ExactExecution, Json

_SIDE = "a run folder or weights file, or a folder of runs that differ in their seeds"


def compare_runs(
    a: Annotated[str, Parameter(help=_SIDE)],
    b: Annotated[str, Parameter(help=_SIDE)],
    /,
    *,
    split: Annotated[Literal["test", "val"], Parameter(help="images to compare on")] = "test",
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    execution: ExactExecution = "channels_last",
    json: Json = False,
) -> None:
    """Tell whether the difference between two networks is real or may be luck.

    Two networks are compared on the same images; two folders of runs by their accuracies.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.evaluation.comparing import compare_runs

    found = compare_runs(a, b, split=split, dataset=dataset, data_dir=data_dir, execution=execution)
    if json:
        console.print_json(found.to_dict())
        return
    print(f"{found.dataset}, {found.split}: {found.n:,} images")
    for name, top1, only in (
        (found.a, found.top1_a, found.only_a),
        (found.b, found.top1_b, found.only_b),
    ):
        alone = "" if only is None else f"; images that it alone has right: {only:,}"
        values = ", ".join(f"{value:.2f}" for value in top1)
        console.print_line(f"{name}: top-1 {values} %{alone}")
    print(
        f"difference {found.difference:+.2f} percentage points "
        f"({found.interval[0]:+.2f} to {found.interval[1]:+.2f}), p = {found.p:.3g}, {found.test}"
    )
    console.print_line(found.sentence())
