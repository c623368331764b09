"""``resnetlab report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from resnetlab import console
from resnetlab.cli.shared import DataDir, Run


def report(
    run: Run,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="file to write; default: report.html in the run folder")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Write all about a run on one page: results, curves, mistakes, calibration, limits.

    The page is a single file for any browser, which loads nothing from elsewhere.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.report.page import write_report

    console.print_line(write_report(run, out=out, data_dir=data_dir))
