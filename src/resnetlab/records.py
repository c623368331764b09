"""What the records (``Architecture``, ``Recipe``) have in common. Standard library alone."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from resnetlab.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """Where a field's numbers must lie, stated at it: ``lr: Annotated[float, Limit(above=0)]``."""

    above: float = -math.inf
    at_least: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def check(self, name: str, number: float) -> None:
        """Raise UserError if the number lies outside, or is not finite."""
        if isinstance(number, float) and not math.isfinite(number):
            raise UserError(f"{name} must be finite, not {number}.")
        if not number > self.above:
            raise UserError(f"{name} must be greater than {self.above:g}, not {number}.")
        if not number >= self.at_least:
            raise UserError(f"{name} must be at least {self.at_least:g}, not {number}.")
        if not number <= self.at_most:
            raise UserError(f"{name} must be at most {self.at_most:g}, not {number}.")
        if not number < self.below:
            raise UserError(f"{name} must be less than {self.below:g}, not {number}.")


class Record:
    """Base of a frozen dataclass that is checked, written to JSON and read back from it."""

    quote = ""
    """around a field's name in messages; "`" where the command line has the field as an option"""

    def check(self) -> None:
        """Turn each field into plain Python values of its annotated type.

        Raises UserError, naming the field, for another type, a choice that a Literal does not
        list, a number outside its ``Limit``.
        """
        for name, hint in _hints(type(self)).items():
            value = _checked(f"{self.quote}{name}{self.quote}", getattr(self, name), hint)
            object.__setattr__(self, name, value)

    def check_choices(self) -> None:
        """Raise UserError if a field annotated as a Literal holds anything else."""
        for name, hint in _hints(type(self)).items():
            if get_origin(hint) is Literal:
                _checked(f"{self.quote}{name}{self.quote}", getattr(self, name), hint)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` is its inverse."""
        values = {name: getattr(self, name) for name in _hints(type(self))}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record of ``to_dict``'s values; UserError for an unknown field."""
        check_fields(cls, values)
        return cls(**values)


@functools.cache
def _hints(record: type) -> dict[str, Any]:
    """The fields of a record and their types."""
    hints = get_type_hints(record, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value as a plain one of the type; UserError if it is of another, or outside a limit."""
    hint, *limits = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    limit = next((limit for limit in limits if isinstance(limit, Limit)), Limit())
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        (hint,) = (option for option in get_args(hint) if option is not NoneType)
    if hasattr(value, "tolist"):  # numpy's numbers and arrays, tensors
        value = value.tolist()
    kind = get_origin(hint) or hint
    if kind is Literal:
        if value not in get_args(hint):
            raise UserError(f"{name} must be one of {', '.join(get_args(hint))}, not {value!r}.")
        return value
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind is tuple and isinstance(value, list | tuple):
        item = get_args(hint)[0]
        return tuple(_checked(f"each of {name}", x, Annotated[item, limit]) for x in value)
    accepted, words = _TYPES[kind]
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise UserError(f"{name} must be {words}, not {value!r}.")
    if kind in (int, float):
        limit.check(name, value)
    return value


_TYPES: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "text"),
    tuple: ((), "a list of numbers"),
    Mapping: (Mapping, "a dictionary"),
}
"""Type of a field -> what is accepted for it, and its name in a message."""


def check_fields(record: type, names: Iterable[str]) -> None:
    """Raise UserError, with the nearest name, for a field that ``record`` does not have."""
    fields = [field.name for field in dataclasses.fields(record)]
    for name in names:
        if name not in fields:
            raise UserError(f"{record.__name__} has no field {name!r}{did_you_mean(name, fields)}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of an error sentence: the nearest of the names, or all of them if none is near."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(names)}."
