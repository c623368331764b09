"""What is said of an option that a command has not."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from resnetlab.cli.options import Option

_OF_OTHER_TOOLS = {
    "learning-rate": "lr",
    "wd": "weight-decay",
    "bs": "batch-size",
    "batch": "batch-size",
    "num-epochs": "epochs",
    "arch": "model",
    "network": "model",
    "checkpoint": "pretrained",
    "weights": "pretrained",
    "output": "out",
    "output-dir": "out",
    "save-dir": "out",
    "data": "data-dir",
    "root": "data-dir",
    "size": "image-size",
    "img-size": "image-size",
    "k": "topk",
    "top": "topk",
    "gpu": "execution",
    "device": "execution",
    "cuda": "execution",
    "threads": "execution threads=1",
    "num-threads": "execution threads=1",
    "precision": "execution",
    "amp": "execution bf16",
    "bf16": "execution bf16",
    "fp16": "execution bf16",
    "compile": "execution compile",
    "json": "format json",
    "csv": "format csv",
}
"""What other programs call an option -> what it is called here."""


def unknown_option(word: str, command: str, options: Sequence[Option]) -> str:
    """A sentence with the nearest of the command's options, or with all that it has."""
    flag = word.partition("=")[0]
    names = {option.flag[2:]: option for option in options if option.role == "option"}
    meant = dict.fromkeys(names) | {
        other: name for other, name in _OF_OTHER_TOOLS.items() if name.split()[0] in names
    }
    typed = flag.strip("-").replace("_", "-").lower()
    near = difflib.get_close_matches(typed, meant, n=1)
    start = f"there is no option {flag!r}"
    if near:
        return f"{start}; did you mean '--{meant[near[0]] or near[0]}'?"
    if not names:
        return f"{start}; {command} has none."
    first = next(iter(names.values())).group
    common = ", ".join(option.flag for option in names.values() if option.group == first)
    if all(option.group == first for option in names.values()):
        return f"{start}; there are: {common}."
    return f"{start}; there are: {common}, and more in `{command} --help`."
