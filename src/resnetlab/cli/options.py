"""Options of commands, made from the annotations of functions and of records."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from resnetlab.errors import UserError
from resnetlab.records import did_you_mean

REQUIRED = inspect.Parameter.empty
"""The default of a parameter that has none."""

_KINDS = {int: ("N", "a whole number"), float: ("X", "a number")}


@dataclass(frozen=True)
class Arg:
    """What ``Annotated`` says of a parameter: its help, and the word that stands for its value."""

    help: str
    metavar: str = ""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A parameter of a command: ``--val-size N``, or a word in its place (``positional``)."""

    parameter: str
    hint: Any
    """its type, without ``Annotated`` and ``None``"""
    default: Any = REQUIRED
    help: str
    metavar: str = ""
    group: str = "options"
    role: Literal["option", "positional"] = "option"

    @property
    def flag(self) -> str:
        """As it is typed: ``--val-size``; of a positional, what the help calls it."""
        name = self.parameter.replace("_", "-")
        return f"--{name}" if self.role == "option" else self.metavar or name.upper()

    @property
    def takes(self) -> Literal["nothing", "one", "several"]:
        """How many words follow it."""
        if self.hint is bool:
            return "nothing"
        return "several" if get_origin(self.hint) in (tuple, dict, Mapping) else "one"

    @property
    def value_name(self) -> str:
        """What its help writes for the value: ``N``, ``{sgd,nesterov}``, ``N ...``."""
        if self.metavar or self.takes == "nothing":
            return self.metavar
        base = get_args(self.hint)[0] if get_origin(self.hint) is tuple else self.hint
        if get_origin(base) is Literal:
            return "{" + ",".join(get_args(base)) + "}"
        name = _KINDS[base][0] if base in _KINDS else self.parameter.rpartition("_")[2].upper()
        return f"{name} ..." if self.takes == "several" else name

    @property
    def wanted(self) -> str:
        """What it takes, in words: "a whole number", "test or val"."""
        base = get_args(self.hint)[0] if get_origin(self.hint) is tuple else self.hint
        if get_origin(base) is Literal:
            *choices, last = get_args(base)
            return f"{', '.join(choices)} or {last}"
        return _KINDS[base][1] if base in _KINDS else f"a value ({self.value_name})"

    def read(self, words: list[str]) -> Any:
        """The value that the words stand for; UserError if they do not."""
        origin = get_origin(self.hint)
        if origin is tuple:
            return tuple(self._read_one(get_args(self.hint)[0], word) for word in words)
        if self.takes == "several":
            if len(words) % 2:
                raise UserError(
                    f"{self.flag} takes names with a value each, as in depths 2,2,2 stem cifar; "
                    f"{words[-1]!r} stands alone."
                )
            return {
                name: _number_or_text(text)
                for name, text in zip(words[::2], words[1::2], strict=True)
            }
        return self._read_one(self.hint, words[0])

    def _read_one(self, hint: Any, word: str) -> Any:
        if get_origin(hint) is Literal:
            if word not in get_args(hint):
                near = did_you_mean(word, get_args(hint))
                raise UserError(f"{word!r} is no choice of {self.flag}{near}")
            return word
        try:
            return hint(word)
        except ValueError:
            raise UserError(f"{self.flag} takes {self.wanted}, not {word!r}.") from None


def options_of(function: Callable[..., Any]) -> Iterator[Option]:
    """A function's parameters: what may be given by place is positional, the others are options."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            hint, arg = _split(hints[name])
            yield Option(
                parameter=name,
                hint=hint,
                default=parameter.default,
                help=arg.help,
                metavar=arg.metavar,
                role="option" if parameter.kind is parameter.KEYWORD_ONLY else "positional",
            )


def options_of_fields(record: Any) -> Iterator[Option]:
    """An option for each field of a record: its value is the default, its docstring the help.

    The class that declares a field names the group.
    """
    hints, declared = get_type_hints(type(record)), {}
    for section in type(record).__mro__:
        if dataclasses.is_dataclass(section):
            for name, text in _field_docstrings(section):
                declared[name] = (section.__name__.lower(), text)
    for field in dataclasses.fields(record):
        (hint, _), (group, text) = _split(hints[field.name]), declared[field.name]
        default = getattr(record, field.name)
        yield Option(parameter=field.name, hint=hint, default=default, help=text, group=group)


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


def _split(hint: Any) -> tuple[Any, Arg]:
    """A type without ``Annotated`` and ``None``, and what ``Annotated`` said."""
    arg = Arg("")
    if get_origin(hint) is Annotated:
        hint, arg = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (member for member in get_args(hint) if member is not type(None))
    return hint, arg


def _number_or_text(word: str) -> int | str:
    try:
        return int(word)
    except ValueError:
        return word
