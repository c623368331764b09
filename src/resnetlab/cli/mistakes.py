"""What is answered to words that are wrong, from the command's own options."""

from __future__ import annotations

import difflib

from cyclopts import (
    Argument,
    ArgumentCollection,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

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


def sentence(error: CycloptsError) -> str:
    """What is wrong, and the remedy."""
    command = " ".join(error.command_chain or ())
    match error:
        case UnknownOptionError(token=token, argument_collection=options):
            return unknown_option(token.keyword or token.value, f"resnetlab {command}", options)
        case MissingArgumentError(argument=Argument(name=name, parameter=parameter) as argument):
            choices = ", ".join(argument.get_choices() or ())
            value = f"a value ({choices})" if choices else "a value"
            taker, needed = (name, value) if name.startswith("--") else (command, name)
            return f"{taker} needs {needed}: {parameter.help}; see `resnetlab {command} --help`."
        case UnusedCliTokensError(unused_tokens=[word, *_]):
            return f"{word!r} is one word too many; see `resnetlab {command} --help`."
    return str(error)


def unknown_option(word: str, command: str, options: ArgumentCollection) -> str:
    """A sentence with the nearest of the command's options, or with all that it has."""
    flag = word.partition("=")[0]
    names = {option.name[2:]: option for option in options if option.name.startswith("--")}
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
    first = next(iter(names.values())).parameter.group
    common = ", ".join(opt.name for opt in names.values() if opt.parameter.group == first)
    if all(option.parameter.group == first for option in names.values()):
        return f"{start}; there are: {common}."
    return f"{start}; there are: {common}, and more in `{command} --help`."
