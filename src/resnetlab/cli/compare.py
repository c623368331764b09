"""``resnetlab compare``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import Json
from resnetlab.files import write_text


def compare(
    network: Annotated[
        str,
        Parameter(
            help="class or factory in a .py, .ipynb or .txt file, with literal arguments if it "
            "needs any: net.py:Net(depth=20)",
            metavar="FILE:NAME",
        ),
    ],
    /,
    *,
    to: Annotated[
        str | None, Parameter(help="reference; default: the closest", metavar="NAME")
    ] = None,
    image_size: Annotated[int | None, Parameter(help="pixels")] = None,
    in_channels: Annotated[int | None, Parameter(help="channels of the image")] = None,
    num_classes: Annotated[int | None, Parameter(help="classes that are expected")] = None,
    all: Annotated[
        bool, Parameter(help="every difference, also of a network that is none of the papers'")
    ] = False,
    diagram: Annotated[
        Path | None, Parameter(help="draw both networks side by side", metavar="FILE.svg")
    ] = None,
    json: Json = False,
) -> None:
    """Say how a ResNet written elsewhere differs from the reference. Runs its code.

    Exit code 0 if it is identical or equivalent up to names, 1 if it differs.
    """
    console.print_to_stderr(
        f"resnetlab: running the code in {network.partition(':')[0] or network}"
    )
    from resnetlab.comparison import compare_models, draw, load_target, render

    with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of our output
        candidate = load_target(network, num_classes=num_classes, in_channels=in_channels)
        comparison = compare_models(
            candidate, to, image_size=image_size, in_channels=in_channels, num_classes=num_classes
        )
    if diagram is not None:
        write_text(diagram.expanduser(), draw(comparison))
    if json:
        console.print_json(comparison.to_dict())
    else:
        print(render(comparison, everything=all))
    if comparison.verdict == "different":
        raise SystemExit(1)
