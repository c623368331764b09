"""``resnetlab runs``."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console, Group
from rich.live import Live

from resnetlab import console
from resnetlab.cli.shared import Json

if TYPE_CHECKING:
    from rich.table import Table

    from resnetlab.training.overview import RunStatus


def runs(
    folder: Annotated[Path, Parameter(help="folder to look below")] = Path("runs"),
    /,
    *,
    watch: Annotated[
        bool, Parameter(help="show them anew every few seconds, until Ctrl-C", negative="")
    ] = False,
    json: Json = False,
) -> None:
    """List the runs below a folder: state, epoch, accuracy, time left."""
    with console.waiting("loading PyTorch"):
        from resnetlab.training.overview import list_runs

    found = list_runs(folder)
    if json:
        console.print_json([_plain(run) for run in found])
        return
    screen = Console(highlight=False, markup=False)
    if not watch or not screen.is_terminal:
        console.print_table(_table(found, folder))
        for line in _faults(found):
            console.print_to_stderr(line)
        return
    with Live(console=screen, auto_refresh=False, screen=False) as live:
        while True:
            shown, _ = console.fit(_table(found, folder), screen.width)
            live.update(Group(shown, *_faults(found)), refresh=True)
            time.sleep(2)
            found = list_runs(folder)


def _table(found: list[RunStatus], folder: Path) -> Table:
    from resnetlab.training.progress import clock

    table = console.table("run", "state", "epoch*", "val %*", "test %*", "left*", "recipe", "host")
    for run in found:
        name = run.path.relative_to(folder) if run.path != folder else run.path
        table.add_row(
            str(name),
            run.state,
            f"{run.epoch:.3g}/{run.epochs:.3g}" if run.epochs else "",
            "" if run.val_top1 is None else f"{run.val_top1:.2f}",
            "" if run.test_top1 is None else f"{run.test_top1:.2f}",
            "" if run.seconds_left is None else clock(run.seconds_left),
            run.recipe or "",
            run.host or "",
        )
    return table


def _faults(found: list[RunStatus]) -> list[str]:
    return [run.fault for run in found if run.fault]


def _plain(run: RunStatus) -> dict[str, Any]:
    return dataclasses.asdict(run) | {"path": str(run.path)}
