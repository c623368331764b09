"""``resnetlab study``: the papers' experiments, several runs as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from resnetlab import console
from resnetlab.cli.shared import DataDir, Execution
from resnetlab.study.table import SEEDS, STUDIES

Epochs = Annotated[float | None, Parameter(help="epochs of each run; default: the study's")]
Budget = Annotated[
    str | None,
    Parameter(
        help="time for all runs together, such as 2h or 90min, from which the epochs follow; the "
        "speed of each network is measured",
        metavar="TIME",
    ),
]
Seeds = Annotated[
    int | None, Parameter(name=["--seeds", "-n"], help="runs of each; default: the study's")
]
Out = Annotated[
    Path | None,
    Parameter(help="folder of the runs, the figure and the table; default: runs/NAME"),
]
Jobs = Annotated[int, Parameter(help="runs side by side, each with its share of the cores")]
Listed = Annotated[
    bool,
    Parameter(
        name="--list",
        negative="",
        help="train nothing; print each run that remains as a command, for a cluster's scheduler",
    ),
]
Draw = Annotated[
    bool, Parameter(negative="", help="train nothing; draw the runs that are finished")
]

STUDY = App(
    name="study",
    help="Repeat an experiment of the papers: several runs, one figure, one table.\n\n"
    "Give the same command again to go on with an interrupted study.",
    usage="Usage: resnetlab study NAME [OPTIONS]",
    group_commands="Studies",
)


def _study(name: str) -> Callable[..., None]:
    def command(
        *,
        budget: Budget = None,
        epochs: Epochs = None,
        seeds: Seeds = None,
        out: Out = None,
        jobs: Jobs = 1,
        data_dir: DataDir = None,
        execution: Execution = "auto",
        listed: Listed = False,
        draw: Draw = False,
    ) -> None:
        options = {"budget": budget, "epochs": epochs, "seeds": seeds, "out": out, "jobs": jobs}
        options |= {"data_dir": data_dir, "execution": execution}
        _carry_out(name, listed, draw, **options)

    return command


def seeds(
    recipe: Annotated[
        str, Parameter(help="a name from `resnetlab train --help`", metavar="RECIPE")
    ],
    /,
    *,
    budget: Budget = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    out: Out = None,
    jobs: Jobs = 1,
    data_dir: DataDir = None,
    execution: Execution = "auto",
    listed: Listed = False,
    draw: Draw = False,
) -> None:
    options = {"budget": budget, "epochs": epochs, "seeds": seeds, "out": out, "jobs": jobs}
    options |= {"data_dir": data_dir, "execution": execution}
    _carry_out("seeds", listed, draw, **options, recipe=recipe)


for _name, _each in STUDIES.items():
    _usual = f"By default {_each.epochs or _each.recipe.epochs:g} epochs and {_each.seeds} seeds."
    STUDY.command(_study(_name), name=_name, help=f"{_each.about} {_usual}")
STUDY.command(seeds, help=f"{SEEDS} By default 5 seeds.")


def _carry_out(name: str, listed: bool, draw: bool, **options: Any) -> None:
    with console.waiting("loading PyTorch"):
        from resnetlab.study.experiment import plan_study, run_study

    if listed:
        for line in plan_study(name, **options).commands():
            console.print_line(line)
        return
    result = run_study(name, **options, train=not draw)
    if result.rows:
        headings = list(result.rows[0].cells())
        table = console.table(*headings)
        for row in result.rows:
            table.add_row(*row.cells().values())
        console.print_table(table)
        print("Errors: mean ± standard deviation; training and validation after the last epoch,")
        print("test of the kept network.")
    for path in filter(None, (result.figure, result.table)):
        console.print_line(path)
    for sentence in result.failures:
        console.print_to_stderr(f"resnetlab: {sentence}")
    if result.finished < result.planned:
        console.print_to_stderr(f"{result.finished} of {result.planned} runs are finished.")
    if result.failures:
        raise SystemExit(1)
