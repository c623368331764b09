"""``resnetlab compare``."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

from resnetlab import console
from resnetlab.cli.options import Arg
from resnetlab.cli.shared import Json


def compare(
    network: Annotated[str, Arg("the class or function that makes the network", "FILE.py:NAME")],
    *,
    to: Annotated[str | None, Arg("reference; default: the closest", "NAME")] = None,
    image_size: Annotated[int | None, Arg("pixels", "N")] = None,
    in_channels: Annotated[int | None, Arg("channels of the image", "N")] = None,
    num_classes: Annotated[int | None, Arg("classes that are expected", "N")] = None,
    json: Json = False,
) -> None:
    """Say how a ResNet written elsewhere differs from the reference. Runs its code.

    Exit code 0 if it is identical or equivalent up to names, 1 if it differs.
    """
    console.print_to_stderr(
        f"resnetlab: running the code in {network.rpartition(':')[0] or network}"
    )
    from resnetlab.comparison import compare_models, load_target, render

    with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of our output
        candidate = load_target(network, num_classes=num_classes, in_channels=in_channels)
        comparison = compare_models(
            candidate, to, image_size=image_size, in_channels=in_channels, num_classes=num_classes
        )
    if json:
        console.print_json(comparison.to_dict())
    else:
        print(render(comparison))
    if comparison.verdict == "different":
        raise SystemExit(1)
