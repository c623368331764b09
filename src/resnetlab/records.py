"""What the records (``Architecture``, ``Recipe``) have in common. Standard library alone."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from resnetlab.errors import UserError


class Record:
    """Base of a frozen dataclass that is checked, written to JSON and read back from it."""

    def check_choices(self) -> None:
        """Raise UserError if a field annotated as a Literal holds anything else."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                choices = ", ".join(get_args(hint))
                raise UserError(f"{name} must be one of {choices}, not {value!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` is its inverse."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record of ``to_dict``'s values; UserError for a field that there is not."""
        check_fields(cls, values)
        return cls(**values)


def check_fields(record: type, names: Iterable[str]) -> None:
    """Raise UserError, with the nearest name, for a field that ``record`` has not."""
    fields = [field.name for field in dataclasses.fields(record)]
    for name in names:
        if name not in fields:
            raise UserError(f"{record.__name__} has no field {name!r}{did_you_mean(name, fields)}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of an error sentence: the nearest of the names, or all of them if none is near."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(names)}."
