"""The help: of every command, at every width, in order."""

import io
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

import resnetlab as package
from resnetlab.cli.program import PROGRAM
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES

SOURCE = Path(package.__file__).parent

COMMANDS = ["data", "models", "show", "train", "resume", "evaluate", "predict", "plot"]
COMMANDS += ["visualize", *(f"train {name}" for name in RECIPES)]
COMMANDS += ["data fetch", "data stats", "data show", "data clean"]
COMMANDS += ["report", "study", "study degradation", "study seeds"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command(resnetlab, command):
    answer = resnetlab(*command.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    usage, _, rest = answer.out.partition("\n\n")
    assert usage.startswith(f"Usage: resnetlab {command}".strip())
    # what the command is for comes first; no field is without words
    assert re.match(r"[A-Z\d][^\n]{15,}", rest), rest
    plain = re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]|-{3,}", " ", rest))
    for text in ("[default: None]", "{None}", "<factory>", "object at 0x", "functools"):
        assert text not in plain
    assert not re.findall(r"--[a-z-]+ [A-Z.]* ?\[(?:default|required|choices)", plain)


def test_help_names_every_command(resnetlab):
    out = resnetlab("--help").out
    for command in COMMANDS:
        if " " not in command:
            assert re.search(rf"^│ {command}  +\w", out, re.M)


@pytest.mark.parametrize("columns", [50, 60, 80, 100])
@pytest.mark.parametrize("command", ["", *COMMANDS, "benchmark training", "compare"])
def test_help_fits_the_terminal_in_whole_words(command, columns):
    def printed(width):
        PROGRAM.help_print(command, console=Console(file=(out := io.StringIO()), width=width))
        return out.getvalue()

    words, out = printed(10_000), printed(columns)
    assert set(re.sub("[│─╭╮╰╯]", " ", out).split()) == set(re.sub("[│─╭╮╰╯]", " ", words).split())
    assert all(len(line.rstrip()) <= columns for line in out.splitlines())


def test_help_puts_the_common_options_first(resnetlab):
    out = resnetlab("train", "cifar10-quick", "--help").out
    flags = re.findall(r"^│ (--[a-z-]+)", out, re.M)
    first = ["--epochs", "--seed", "--lr", "--batch-size", "--model", "--dataset", "--out"]
    assert flags[: len(first)] == first
    assert re.findall(r"^╭─ ([\w ]+?) ─", out, re.M) == [
        *(
            "Common options",
            "General",
            "Network",
            "Data",
            "Schedule",
            "Optimizer",
            "Augmentation",
            "Tuning",
        )
    ]


def test_help_says_every_field_of_a_recipe_once_with_its_value(resnetlab, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out = re.sub(r"[\s│]+", " ", resnetlab("train", "cifar10-94", "--help").out)
    for field in fields(Recipe):
        assert len(re.findall(rf" --{field.name.replace('_', '-')} ", out)) == 1
    assert re.search(r"--epochs FLOAT [^[]*\[default: 16\]", out)
    assert re.search(r"--norm-lr FLOAT [^[]*\[default: 1\]", out)
    assert re.search(r"--mean FLOAT\.\.\. [^-]*a number for each channel", out)
    assert "[default: ]" not in out


def test_version(resnetlab):
    with (SOURCE.parents[1] / "pyproject.toml").open("rb") as file:
        stated = tomllib.load(file)["project"]["version"]
    assert resnetlab("--version").out == f"resnetlab {stated}\n"
    assert package.__version__ == stated
    assert "--version" in resnetlab("--help").out
