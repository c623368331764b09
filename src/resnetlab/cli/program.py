"""The commands that there are, and what becomes of the exceptions that they raise."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn

import resnetlab
from resnetlab.cli import benchmark, compare, data, evaluate, models, plots, predict, train
from resnetlab.cli.commands import Command, Group
from resnetlab.cli.help import help_text
from resnetlab.errors import UserError

_OUTPUT_FAILS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
"""What writing to a full disk or to a reader that is gone raises, without a file's name."""


def _group(
    name: str, about: str, closing: str = "", **members: Callable[..., None] | Group
) -> Group:
    commands = {
        word: member
        if isinstance(member, Group)
        else Command(name=f"{name} {word}", function=member)
        for word, member in members.items()
    }
    return Group(name=name, about=about, members=commands, closing=closing)


PROGRAM = _group(
    "resnetlab",
    "Train, evaluate and use residual networks.",
    "resnetlab --version prints the version.",
    data=_group(
        "resnetlab data",
        "Fetch a data set, look at it, measure it.",
        fetch=data.fetch,
        stats=data.stats,
        show=data.show,
    ),
    models=models.models,
    show=models.show,
    train=train.TRAIN,
    resume=train.resume,
    evaluate=evaluate.evaluate,
    predict=predict.predict,
    compare=compare.compare,
    plot=plots.plot,
    visualize=plots.visualize,
    benchmark=_group(
        "resnetlab benchmark",
        "Measure training, inference and data in images per second.",
        training=benchmark.training,
        inference=benchmark.inference,
        data=benchmark.data,
    ),
)


def main() -> None:
    """Run a command; what the user can mend is one sentence and exit code 2, Ctrl-C is 130."""
    _prepare_streams()
    command = None
    try:
        try:
            if sys.argv[1:] == ["--version"]:
                print(f"resnetlab {resnetlab.__version__}")
                return
            command, words = PROGRAM.find(sys.argv[1:])
            _run(command, words)
        finally:
            sys.stdout.flush()
    except UserError as error:
        _fail(_with_flags(str(error), command), 2)
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


def _run(command: Command | Group, words: list[str]) -> None:
    before = words[: words.index("--")] if "--" in words else words
    if isinstance(command, Group) or {"-h", "--help"} & set(before):
        print(help_text(command))
    else:
        command.function(**command.parse(words))


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as in `resnetlab train smoke >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a name cannot be written, ? stands for it


def _with_flags(sentence: str, command: Command | Group | None) -> str:
    """Parameters of the command, in backticks by their Python names, as they are typed."""
    flags = {}
    if isinstance(command, Command):
        flags = {option.parameter: option.flag for option in command.options}
    return re.sub(r"`(\w+)`", lambda match: flags.get(match[1], match[0]), sentence)


def _fail(sentence: str, code: int) -> NoReturn:
    if os.environ.get("LOCAL_RANK", "0") != "0":
        if code == 130:
            sys.exit(code)
        time.sleep(10)  # torchrun's processes fail alike: the first one says it and ends the others
    print(f"resnetlab: {sentence}", file=sys.stderr)
    sys.exit(code)
