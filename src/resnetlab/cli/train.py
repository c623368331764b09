"""``resnetlab train`` and ``resume``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter as Argument
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from cyclopts import App, Group, Parameter

from resnetlab import console
from resnetlab.cli.shared import FIELDS, Run
from resnetlab.errors import UserError
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import ABOUT, RECIPES

if TYPE_CHECKING:
    from resnetlab.training.job import Training

_COMMON = ("epochs", "seed", "lr", "batch_size", "model", "dataset", "out", "resume_if_exists")
"""Options that stand first in the help; the others follow by the sections of the recipe."""

_CHANGEABLE = ("epochs", "lr", "norm_lr", "muon_lr", "warmup_share", "clip_norm", "accumulate")
_CHANGEABLE += ("execution", "data_dir", "cache", "on_nan")
"""Options of ``resume``, which a run can be given on its way."""

_OTHERS = {
    "name": Parameter(show_default=False),  # which the command has just named
    "model_overrides": FIELDS,
    "execution": Parameter(metavar="WORDS"),
    "cache": Parameter(metavar="DIR|memory|none"),
    "pretrained": Parameter(metavar="WEIGHTS"),
    "model": Parameter(metavar="NAME"),
    "dataset": Parameter(metavar="NAME"),
}

TRAIN = App(
    name="train",
    help="Train a network and evaluate it on the test set at the end.\n\n"
    "resnetlab train RECIPE --help lists the options of a recipe.",
    usage="Usage: resnetlab train RECIPE [OPTIONS]",
    group_commands="Recipes",
)


def resume(run: Path, /, **changes: Any) -> None:
    """Resume an interrupted run, bit for bit, or go on with other values.

    A finished run goes on with more epochs.
    On another machine, the execution is chosen anew where it has to be.
    """
    from resnetlab.training.job import resume

    report(resume(run, **changes))


def _train(recipe: str) -> Callable[..., None]:
    """``train`` with a recipe, whose fields are options and whose values are the defaults."""

    def command(**changes: Any) -> None:
        from resnetlab.training.job import train

        report(train(recipe, **changes))

    set_options(command, OPTIONS, {"out": None, "resume_if_exists": False, **vars(RECIPES[recipe])})
    return command


def set_options(
    command: Callable[..., None],
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *arguments: Argument,
) -> None:
    """Give a command options with these types, after its arguments."""
    options = {name: _optional(hint, defaults[name]) for name, hint in options.items()}
    command.__annotations__ = {each.name: each.annotation for each in arguments} | options
    command.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [
            *arguments,
            *(
                Argument(name, Argument.KEYWORD_ONLY, default=defaults[name], annotation=hint)
                for name, hint in options.items()
            ),
        ]
    )


def _optional(hint: Any, default: Any) -> Any:
    """The type with None where that is the default; pydantic, if installed, would refuse it."""
    if default is not None:
        return hint
    kind, *known = get_args(hint)
    return Annotated[kind | None, *known]


def _options() -> dict[str, Any]:
    """Option -> its type, annotated with its help and its group."""
    out = Parameter(help="run folder; default: runs/NAME")
    again = Parameter(help="go on with the run in --out if there is one", negative="")
    options: dict[str, Any] = {
        "out": Annotated[Path | None, out],
        "resume_if_exists": Annotated[bool, again],
    }
    hints = get_type_hints(Recipe)
    for order, section in enumerate(reversed(Recipe.__mro__), 1):
        if dataclasses.is_dataclass(section):
            group = Group(section.__name__, sort_key=order)
            for name, text in _field_docstrings(section):
                known = Parameter(help=text, group=group), _OTHERS.get(name, Parameter())
                options[name] = Annotated[hints[name], *known]
    common = Parameter(group=Group("Common options", sort_key=0))
    first = {name: Annotated[options[name], common] for name in _COMMON}
    return first | {name: hint for name, hint in options.items() if name not in first}


def _field_docstrings(record: type) -> Iterator[tuple[str, str]]:
    (body,) = ast.parse(inspect.getsource(record)).body
    assert isinstance(body, ast.ClassDef)
    for field, text in itertools.pairwise(body.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                yield name, " ".join(words.split())


OPTIONS = _options()
_ACCEPT = Parameter(
    help="go on although recipe.json was changed by hand, or with another number of processes",
    negative="",
)
_FROM_HERE_ON = Parameter(group=Group("Options", sort_key=0))

set_options(
    resume,
    {
        **{name: Annotated[OPTIONS[name], _FROM_HERE_ON] for name in _CHANGEABLE},
        "accept_changes": Annotated[bool, _ACCEPT, _FROM_HERE_ON],
    },
    {**dict.fromkeys(_CHANGEABLE), "accept_changes": False},
    Argument("run", Argument.POSITIONAL_ONLY, annotation=Run),
)
for _name in RECIPES:
    TRAIN.command(_train(_name), name=_name, help=ABOUT[_name])


def report(training: Training) -> None:
    if training.test is None:
        return
    print(f"test accuracy {training.test.top1:.2f} % on {training.test.n:,} images")
    if training.test_tta is not None:
        result = training.test_tta
        print(f"with test-time augmentation ({result.tta}) {result.top1:.2f} %")
    validated = training.history[-1]["val_top1"] is not None
    chosen = "best on the validation images" if validated else "as it was at the end"
    for name, what in (
        ("best.pt", f"the network, {chosen}"),
        ("test.json", "its result on the test set"),
        ("metrics.jsonl", "every epoch"),
        ("curves.png", "the same as a picture"),
        ("last.pt", "the last state"),
        ("tensorboard", "events for TensorBoard"),
    ):
        print(f"  {training.run / name}  {what}")
    _write_report(training.run)


def _write_report(run: Path) -> None:
    """The training is done whatever becomes of its report."""
    from resnetlab.report.page import write_report

    try:
        print(f"  {write_report(run)}  all of it on one page, for a browser")
    except UserError as error:
        console.print_to_stderr(f"resnetlab: no report: {error}")
