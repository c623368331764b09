"""``resnetlab export`` and ``resnetlab push``: networks for elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import (
    Classes,
    DataDir,
    DatasetName,
    Json,
    Mean,
    ModelName,
    ModelOverrides,
    Network,
    Std,
)

CHECKED_ON = Parameter(group="images to check it on")


def export(
    run: Network,
    /,
    *,
    format: Annotated[
        Literal["onnx", "openvino", "torch", "safetensors", "bundle"],
        Parameter(
            help="torch is a .pt2 of torch.export, safetensors weights with their record, bundle a "
            "folder that runs without PyTorch"
        ),
    ] = "onnx",
    int8: Annotated[
        bool,
        Parameter(
            help="quantise; kept only if accuracy falls by at most 0.5 points and it is faster here"
        ),
    ] = False,
    out: Annotated[
        Path | None,
        Parameter(help="folder to write to; default: export/ in the run or the current folder"),
    ] = None,
    input: Annotated[
        Literal["uint8", "float"],
        Parameter(help="pixels that it takes: uint8 from 0 to 255, or float from 0 to 1"),
    ] = "uint8",
    class_maps: Annotated[
        bool, Parameter(help="add an output that shows where the evidence for each class lies")
    ] = False,
    dataset: Annotated[DatasetName, CHECKED_ON] = None,
    data_dir: Annotated[DataDir, CHECKED_ON] = None,
    images: Annotated[
        tuple[Path, ...],
        CHECKED_ON,
        Parameter(help="image files or folders instead, without labels", metavar="FILE ..."),
    ] = (),
    n: Annotated[
        int | None, CHECKED_ON, Parameter(help="images of the test split; default: all")
    ] = None,
    model: ModelName = None,
    model_overrides: ModelOverrides = {},  # noqa: B006
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    json: Json = False,
) -> None:
    """Write a network for another runtime, after it has proven there to answer the same."""
    with console.waiting("loading PyTorch"):
        from resnetlab.export.job import export_network

    done = export_network(
        run,
        format=format,
        int8=int8,
        out=out,
        input=input,
        class_maps=class_maps,
        dataset=dataset,
        data_dir=data_dir,
        images=images,
        n=n,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    if json:
        console.print_json(done.to_dict())
        return
    check = done.check
    console.print_line(f"{done.path}: {done.bytes / 1e6:,.1f} MB")
    print(
        f"checked on {check.images}: {check.n:,} images, {check.differ:,} with another likeliest "
        f"class; logits differ by at most {check.largest_difference:.1e} of the largest"
    )
    if check.top1 is not None:
        print(f"top-1 {check.top1:.2f} %, in PyTorch {check.reference_top1:.2f} %")
    table = console.table("computed by", "images at once*", "images/s*", "times PyTorch's*")
    for speed in done.speeds:
        table.add_row(speed.name, str(speed.n), f"{speed.rate:,.1f}", f"{speed.ratio:.2f}")
    console.print_table(table)


def push(
    run: Network,
    repository: Annotated[
        str,
        Parameter(help="user/name on the hub, or a folder to write it to", metavar="REPOSITORY"),
    ],
    /,
    *,
    private: Annotated[bool, Parameter(help="make a new repository private")] = False,
) -> None:
    """Write a hub repository: model.safetensors, config.json and a card with its results."""
    with console.waiting("loading PyTorch"):
        from resnetlab.export.hub import push

    with console.waiting(f"writing {repository}"):
        written = push(run, repository, private=private)
    console.print_line(written)
