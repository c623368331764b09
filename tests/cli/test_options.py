"""Options from annotations and fields, and the values that words stand for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from resnetlab.cli.options import REQUIRED, Arg, Option, options_of, options_of_fields
from resnetlab.errors import UserError
from resnetlab.recipes.record import Recipe


def example(
    run: Annotated[Path, Arg("a run", "RUN")],
    names: Annotated[tuple[str, ...], Arg("names")] = (),
    *,
    val_size: Annotated[int | None, Arg("images")] = None,
    json: Annotated[bool, Arg("for machines")] = False,
    **others: Any,
) -> None:
    """Do nothing."""


def test_a_function_says_what_its_options_are():
    run, names, val_size, json = options_of(example)
    assert (run.role, run.flag, run.default, run.hint) == ("positional", "RUN", REQUIRED, Path)
    assert (names.role, names.flag, names.takes) == ("positional", "NAMES", "several")
    assert (val_size.role, val_size.flag, val_size.hint) == ("option", "--val-size", int)
    assert (json.takes, json.value_name, json.help) == ("nothing", "", "for machines")


@dataclass
class Section:
    name: str = ""
    """what it is called"""


@dataclass
class Small(Section):
    size: Annotated[int, "above 0"] = 3
    """pixels
    of it"""
    seen = 0
    mean: tuple[float, ...] | None = None
    """one each"""


def test_a_record_says_what_its_options_are():
    name, size, mean = options_of_fields(Small(size=4))
    assert (name.help, name.group, size.group) == ("what it is called", "section", "small")
    assert (size.flag, size.default, size.help) == ("--size", 4, "pixels of it")
    assert (mean.takes, mean.value_name, mean.help) == ("several", "X ...", "one each")
    recipe = list(options_of_fields(Recipe()))
    assert [option.parameter for option in recipe] == [field.name for field in fields(Recipe)]
    assert all(option.help for option in recipe)


READ = [
    (int, "12", 12, "a whole number"),
    (float, "1e-3", 0.001, "a number"),
    (str, "a b", "a b", "a value (VALUE)"),
    (Path, "a/b", Path("a/b"), "a value (VALUE)"),
    (Literal["a", "b"], "a", "a", "a or b"),
    (tuple[float, ...], "0.5 1", (0.5, 1.0), "a number"),
    (tuple[str, ...], "x y", ("x", "y"), "a value (VALUE ...)"),
    (Mapping[str, int | str], "stem cifar width 3", {"stem": "cifar", "width": 3}, None),
    (dict[str, int | str], "depths 2,2", {"depths": "2,2"}, None),
]


@pytest.mark.parametrize(("hint", "text", "value", "wanted"), READ)
def test_words_become_a_value(hint, text, value, wanted):
    option = Option(parameter="value", hint=hint, help="")
    words = [text] if option.takes == "one" else text.split()
    read = option.read(words)
    assert (read, type(read)) == (value, type(value))
    assert wanted in (None, option.wanted)


@pytest.mark.parametrize(
    ("hint", "text"),
    [(int, "1.5"), (int, ""), (float, "x"), (Literal["a", "b"], "c"), (dict[str, int], "x")],
)
def test_other_words_do_not(hint, text):
    with pytest.raises(UserError, match="--value"):
        Option(parameter="value", hint=hint, help="").read([text])
