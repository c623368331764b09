"""A study from its plan to its figure and table."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from resnetlab.arguments import check_types, seconds_of
from resnetlab.compute.execution import Execution
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.files import user_path
from resnetlab.plots.picture import Picture
from resnetlab.plots.style import write_figure
from resnetlab.study.figures import figure_study
from resnetlab.study.runner import check_runs, command, run_all, unfinished
from resnetlab.study.settle import settle
from resnetlab.study.summary import Row, summarize_runs, write_table
from resnetlab.study.table import PlannedRun, Study, get_study, planned_runs


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What ``run_study`` returns."""

    folder: Path
    rows: tuple[Row, ...]
    """of the variants that have finished runs"""
    planned: int
    """runs of the whole study"""
    finished: int
    failures: tuple[str, ...] = ()
    """a sentence for each run that has failed"""
    figure: Picture | None = None
    """None: no run is finished yet"""
    table: Path | None = None


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """The runs of a study in their folder."""

    study: Study
    folder: Path
    runs: tuple[PlannedRun, ...]

    def commands(self) -> list[str]:
        """What remains to be trained, each as a shell takes it."""
        return [shlex.join(command(run, self.folder)) for run in unfinished(self.runs, self.folder)]


def plan_study(
    name: str,
    *,
    recipe: str | None = None,
    epochs: float | None = None,
    budget: str | None = None,
    seeds: int | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    data_dir: str | Path | None = None,
    execution: str = "auto",
) -> StudyPlan:
    """Settle the runs of a study; see ``run_study`` for the arguments."""
    study = get_study(name, recipe)
    if execution != "auto":
        Execution.parse(execution)  # a wrong word is said before anything is begun
    directory = str(user_path(data_dir).absolute()) if data_dir is not None else None
    base = replace(study.recipe, data_dir=directory, execution=execution)
    study = replace(study, recipe=base)
    folder = user_path(out) if out is not None else Path("runs") / study.name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"`out` {folder} is a file; name a folder.")
    seconds = None if budget is None else seconds_of(budget)
    extent = settle(study, folder, epochs=epochs, budget=seconds, seeds=seeds, jobs=jobs)
    runs = planned_runs(study, extent.epochs, extent.seeds)
    check_runs(runs, folder)
    return StudyPlan(study=study, folder=folder, runs=tuple(runs))


@check_types
@torch_defaults()
def run_study(
    name: str,
    *,
    recipe: str | None = None,
    epochs: float | None = None,
    budget: str | None = None,
    seeds: int | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    data_dir: str | Path | None = None,
    execution: str = "auto",
    train: bool = True,
) -> StudyResult:
    """Train what a study compares, as ordinary runs in one folder, and draw what they say.

    Runs that are finished are taken as they are, interrupted ones are resumed: to repeat the call
    goes on where it was stopped.

    Args:
        name: degradation, shortcuts, blocks, preactivation, stem, depth, learning-curve, or seeds.
        recipe: What ``seeds`` repeats.
        epochs: Of each run; by default the study's own.
        budget: A time such as "2h" that all runs together may take, from which the epochs follow:
            the speed of each network is measured.
        seeds: Runs of each variant.
        out: The folder; by default runs/NAME. It keeps the epochs and seeds in study.json.
        jobs: Runs side by side, with an equal share of the cores each.
        data_dir: Folder that already holds the data set.
        execution: How to compute, for runs that have not begun; see ``Recipe``.
        train: False: nothing is trained, what is finished is drawn.

    Raises:
        UserError: A name or number that there is not, a folder that holds other runs, a budget
            that is too small. KeyboardInterrupt after Ctrl-C, when all runs have saved their
            state.
    """
    plan = plan_study(
        name,
        recipe=recipe,
        epochs=epochs,
        budget=budget,
        seeds=seeds,
        out=out,
        jobs=jobs,
        data_dir=data_dir,
        execution=execution,
    )
    failures = run_all(plan.runs, plan.folder, jobs) if train else []
    return draw_study(plan, failures)


def draw_study(plan: StudyPlan, failures: list[str] | None = None) -> StudyResult:
    """The table and the figure of the runs that are finished, written to the folder."""
    rows = summarize_runs(plan.runs, plan.folder)
    figure = table = None
    if rows:
        table = plan.folder / f"{plan.study.name}.csv"
        write_table(rows, table)
        drawn = figure_study(plan.study, rows)
        figure = write_figure(drawn, plan.folder / f"{plan.study.name}.png")
    return StudyResult(
        folder=plan.folder,
        rows=tuple(rows),
        planned=len(plan.runs),
        finished=len(plan.runs) - len(unfinished(plan.runs, plan.folder)),
        failures=tuple(failures or ()),
        figure=figure,
        table=table,
    )
