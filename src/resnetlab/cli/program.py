"""The commands that there are, and what becomes of the exceptions that they raise."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from cyclopts import App, CoercionError, CycloptsError, Parameter, Token, convert
from cyclopts.help import ColumnSpec, DefaultFormatter, DescriptionRenderer, HelpEntry, NameRenderer

import resnetlab
from resnetlab.cli import (
    benchmark,
    compare,
    compare_runs,
    data,
    evaluate,
    export,
    finetune,
    models,
    plots,
    predict,
    report,
    runs,
    serve,
    study,
    train,
)
from resnetlab.cli.mistakes import sentence
from resnetlab.console import print_to_stderr
from resnetlab.errors import UserError
from resnetlab.recipes.table import ALIASES, resolve
from resnetlab.records import did_you_mean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

_OUTPUT_FAILS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
"""What writing to a full disk or to a reader that is gone raises, without a file's name."""


def _columns(
    console: Console, options: ConsoleOptions, entries: list[HelpEntry]
) -> tuple[ColumnSpec, ...]:
    """Names and descriptions; no name is broken."""
    width = max(18, *(len(label) for entry in entries for label in entry.display_labels))
    names = ColumnSpec(renderer=NameRenderer(max_width=width), no_wrap=True)
    return names, ColumnSpec(renderer=DescriptionRenderer(), overflow="fold")


def _read(hint: Any, tokens: Sequence[Token]) -> Any:
    """The library's own reading, which would round 1.5 to a whole number."""
    for token in tokens:
        if int in (hint, *get_args(hint)) and not token.value.lstrip("+-").isdecimal():
            raise CoercionError(msg=f"{token.value!r} is not a whole number.", token=token)
    return convert(hint, tokens)


def _shown(default: Any) -> str | None:
    """A default as it is typed."""
    values = default if isinstance(default, tuple) else (default,)
    if isinstance(default, bool) or not all(
        isinstance(x, str | int | float | Path) for x in values
    ):
        return None
    return " ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in values)


PROGRAM = App(
    name="resnetlab",
    help="Train, evaluate and use residual networks.",
    version=f"resnetlab {resnetlab.__version__}",
    help_format="plaintext",
    help_formatter=DefaultFormatter(column_specs=_columns),
    default_parameter=Parameter(
        allow_repeating=True,
        consume_multiple=1,
        converter=_read,
        negative_iterable=(),
        show_default=_shown,
    ),
)
_DATA = App(name="data", help="Fetch a data set, look at it, measure it.")
_BENCHMARK = App(
    name="benchmark", help="Measure training, inference and data in images per second."
)
for _app, *_members in (
    (_DATA, data.fetch, data.stats, data.show, data.check, data.clean),
    (_BENCHMARK, benchmark.training, benchmark.inference, benchmark.data),
    (PROGRAM, _DATA, models.models, models.show, train.TRAIN, train.resume, runs.runs),
    (PROGRAM, finetune.finetune, finetune.lr_find),
    (PROGRAM, evaluate.evaluate, predict.predict, compare.compare),
    (PROGRAM, export.export, export.push, serve.serve),
    (PROGRAM, compare_runs.compare_runs, plots.plot, plots.visualize, plots.explain),
    (PROGRAM, plots.inspect, report.report, study.STUDY, _BENCHMARK),
):
    for _member in _members:
        _app.command(_member)
for _app in (PROGRAM, _DATA, _BENCHMARK, train.TRAIN, study.STUDY):
    for _place, _name in enumerate(_app):
        _app[_name].sort_key = _place  # the help would sort them by name


def main() -> None:
    """Run a command; what the user can mend is one sentence and exit code 2, Ctrl-C is 130."""
    _prepare_streams()
    words = sys.argv[1:]
    try:
        try:
            words = _in_order(words)
            _run(words)
        finally:
            sys.stdout.flush()
    except CycloptsError as error:
        _fail(sentence(error), 2)
    except UserError as error:
        _fail(_with_flags(str(error), words), 2, error.where, error.told_elsewhere)
    except KeyboardInterrupt as error:
        _fail(str(error) or "stopped.", 130)
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_FAILS:
            raise  # of a file or the network: what a user can mend there is a UserError by now
        # Python flushes once more at its end, and must not complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # our reader went away, as in `... | head`
            sys.exit(1)
        _fail(f"cannot write the output: {error.strerror}.", 2)


def _run(words: list[str]) -> None:
    command, bound, _ = PROGRAM.parse_args(words, exit_on_error=False, print_error=False)
    command(*bound.args, **bound.kwargs)


def _in_order(words: list[str]) -> list[str]:
    """The command before the options, as in ``train --out runs/a smoke``; the recipe's name now."""
    chain, (*_, app), rest = PROGRAM.parse_commands(words)
    if app.default_command is not None:
        return words
    noun = {"train": "recipe", "study": "study"}.get(app.name[0], "command")
    names = [name for name in app if not name.startswith("-")]
    at = next((i for i, word in enumerate(rest) if word in {*names, *ALIASES}), None)
    if at is not None:
        return [*chain, resolve(rest[at]), *rest[at + 1 :], *rest[:at]]
    if rest and not rest[0].startswith("-"):
        raise UserError(f"there is no {noun} {rest[0]!r}{did_you_mean(rest[0], names)}")
    usage = " ".join(["resnetlab", *chain, noun.upper(), "..."])
    before = f" before {rest[0]}" if rest else ""
    raise UserError(f"name a {noun}{before}: {usage}; there are: {', '.join(names)}.")


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as in `resnetlab train smoke >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a name cannot be written, ? stands for it


def _with_flags(sentence: str, words: list[str]) -> str:
    """Parameters of the command, in backticks by their Python names, as they are typed."""
    chain, (*_, app), _ = PROGRAM.parse_commands(words)
    if not app.default_command or chain[-1].startswith("-"):
        return sentence
    flags = {option.field_info.name: option.name for option in app.assemble_argument_collection()}
    return re.sub(r"`(\w+)`", lambda match: flags.get(match[1], match[0]), sentence)


def _fail(
    sentence: str, code: int, where: str = "", told_elsewhere: bool | None = None
) -> NoReturn:
    if told_elsewhere is None and os.environ.get("LOCAL_RANK", "0") != "0":
        if code == 130:
            sys.exit(code)
        time.sleep(10)  # torchrun's processes fail alike: the first one says it and ends the others
    if not told_elsewhere:
        print_to_stderr(f"resnetlab, {where}: {sentence}" if where else f"resnetlab: {sentence}")
    sys.exit(code)
