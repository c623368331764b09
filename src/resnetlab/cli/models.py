"""``resnetlab models`` and ``show``: the networks there are, and what is in one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import ImageSize, Json, Overrides


def models(
    pattern: Annotated[str, Parameter(help='names to list, such as "resnet*"')] = "*",
    /,
    *,
    verify: Annotated[
        bool, Parameter(help="check them against the papers and torchvision")
    ] = False,
    json: Json = False,
) -> None:
    """List the networks: layers, parameters, multiply-adds, the paper's error."""
    if verify:
        _verify(pattern, json)
        return
    from resnetlab.models.summary import describe_models

    rows = describe_models(pattern)
    if json:
        console.print_json(rows)
        return
    table = console.table(
        *("name", "layers*", "parameters*", "multiply-adds*", "at*", "paper's error*")
    )
    for row in rows:
        error = "" if row["paper_error"] is None else f"{row['paper_error']:.2f} %"
        numbers = [str(row["layers"]), f"{row['parameters']:,}", f"{row['multiply_adds']:,}"]
        table.add_row(row["name"], *numbers, f"{row['image_size']} px", error)
    console.print_table(table)
    print("Error: top-1; CIFAR-10 test set at 32 px, ImageNet validation (10 crops) at 224 px.")


def _verify(pattern: str, json: bool) -> None:
    from resnetlab.models.architecture import list_models
    from resnetlab.models.verification import verify_model

    names = list_models(pattern)
    proofs = [verify_model(name) for name in console.progress(names, len(names), "verifying")]
    if json:
        console.print_json([asdict(proof) | {"holds": proof.holds} for proof in proofs])
    else:
        table = console.table(
            *("name", "verdict", "parameters*", "paper*", "torchvision*"),
            *("difference*", "compared with"),
        )
        for proof in proofs:
            counts = (proof.parameters, proof.paper_parameters, proof.torchvision_parameters)
            table.add_row(
                *(proof.name, "proven" if proof.holds else "DIFFERS"),
                *("-" if count is None else f"{count:,}" for count in counts),
                *(f"{proof.output_difference:.1e}", proof.reference),
            )
        console.print_table(table)
    if not all(proof.holds for proof in proofs):
        raise SystemExit(1)


def show(
    name: Annotated[str, Parameter(help="a name from `resnetlab models`", metavar="NAME")],
    /,
    *,
    image_size: ImageSize = None,
    in_channels: Annotated[int | None, Parameter(help="channels of the image; default: 3")] = None,
    num_classes: Annotated[int | None, Parameter(help="default: the paper's")] = None,
    override: Overrides = {},  # noqa: B006
    diagram: Annotated[
        Path | None,
        Parameter(help="draw its blocks and shortcuts: .svg, .png or .pdf", metavar="FILE"),
    ] = None,
    json: Json = False,
) -> None:
    """Walk through a network: the output shape and the size of each of its parts."""
    from resnetlab.models.architecture import get_architecture
    from resnetlab.models.summary import default_image_size, summarize

    given = {"in_channels": in_channels, "num_classes": num_classes}
    changes = {key: value for key, value in given.items() if value is not None}
    architecture = get_architecture(name, **changes, **override)
    size = default_image_size(architecture) if image_size is None else image_size
    if diagram is not None:
        from resnetlab.plots.architecture import plot_architecture
        from resnetlab.plots.style import check_format

        check_format(diagram, "diagram")
        drawn = plot_architecture(architecture, diagram, image_size=size, title=name)
        console.print_to_stderr(str(drawn))
    layers = summarize(architecture, size)
    if json:
        console.print_json([asdict(layer) for layer in layers])
        return
    table = console.table("part", "what", "output*", "parameters*", "multiply-adds*")
    table.add_row("input", "", f"{architecture.in_channels} x {size} x {size}", "", "")
    for layer in layers:
        shape = " x ".join(map(str, layer.output))
        counts = [f"{n:,}" if n else "" for n in (layer.parameters, layer.multiply_adds)]
        table.add_row(layer.name, layer.kind, shape, *counts)
    table.add_section()
    totals = [sum(getattr(x, key) for x in layers) for key in ("parameters", "multiply_adds")]
    table.add_row(
        "total", f"{architecture.num_layers} weighted layers", "", *(f"{n:,}" for n in totals)
    )
    console.print_table(table)
