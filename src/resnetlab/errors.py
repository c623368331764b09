"""The one exception that is shown to a person without a traceback, and others in one line."""

from __future__ import annotations


class UserError(ValueError):
    """What a person can mend: one sentence that names the parameter or file, and the remedy.

    A parameter is written in backticks by its Python name, as in ``"`val_size` must be ..."``; the
    command line prints it as its option, ``--val-size``. Every other exception is a fault of ours
    and shows its traceback.
    """

    where = ""
    """of several processes, the one that raised it and its machine"""
    told_elsewhere: bool | None = None
    """whether another process on this machine prints it; None: not known"""


def reason_of(error: BaseException) -> str:
    """Why something failed, in one line: the system's words, or the first line of a library's."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = (line.strip().rstrip(":") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
