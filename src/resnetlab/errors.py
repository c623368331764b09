"""The one exception that is shown to a person without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """What a person can mend: one sentence that names the parameter or file, and the remedy.

    A parameter is written in backticks by its Python name, as in ``"`val_size` must be ..."``; the
    command line prints it as its option, ``--val-size``. Every other exception is a fault of ours
    and shows its traceback.
    """
