"""The help: of every command, at every width, in order."""

import re

import pytest

from resnetlab.recipes.table import RECIPES

COMMANDS = ["data", "models", "show", "train", "resume", "evaluate", "predict", "plot"]
COMMANDS += ["visualize", *(f"train {name}" for name in RECIPES)]
COMMANDS += ["data fetch", "data stats", "data show"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command(resnetlab, command):
    answer = resnetlab(*command.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    usage, _, rest = answer.out.partition("\n\n")
    assert usage.startswith(f"usage: resnetlab {command}".strip())
    # what the command is for comes first; no field is without words
    assert re.match(r"[A-Z\d][^\n]{15,}", rest), rest
    plain = re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]|-{3,}", " ", rest))
    for text in ("(default: None)", "{None}", "<factory>", "object at 0x", "functools"):
        assert text not in plain
    assert not re.findall(r"--[a-z-]+ (?:\{[^}]*\}|[A-Z]+|) ?\((?:default|required)", plain)


def test_help_names_every_command(resnetlab):
    out = resnetlab("--help").out
    for command in COMMANDS:
        if " " not in command:
            assert re.search(rf"^  {command}  +\w", out, re.M)
