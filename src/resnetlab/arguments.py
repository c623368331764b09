"""Arguments of public functions, held against their annotations. Standard library alone."""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from resnetlab.errors import UserError

Function = TypeVar("Function", bound=Callable[..., Any])

_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Path: "a path",
    Sequence: "a list",
    Iterable: "a list",
    Mapping: "a dictionary",
}
"""What a type is called in a message."""

_KINDS: dict[type, Any] = {
    int: numbers.Integral,
    float: numbers.Real,
    str: (str, os.PathLike),
    Path: (str, os.PathLike),
    Sequence: Iterable,  # arrays and tensors as well
}
"""What is taken for a type beside it."""


def check_types(function: Function) -> Function:
    """UserError that names the parameter for an argument of another type than is annotated.

    What a sequence or dictionary holds is not looked at. Numbers of numpy are numbers.
    """

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        hints, signature = _described(function)
        with suppress(TypeError):  # a parameter that there is not: Python says it below
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                if name in hints:
                    _check(name, value, hints[name])
        return function(*args, **kwargs)

    return checked  # pyright: ignore[reportReturnType]


@functools.cache
def _described(function: Callable[..., Any]) -> tuple[dict[str, list[Any]], inspect.Signature]:
    """What each parameter may be (no entry: anything), and the signature."""
    signature = inspect.signature(function)
    hints = {name: list(_options(hint)) for name, hint in get_type_hints(function).items()}
    gathered = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return {k: v for k, v in hints.items() if k not in gathered and Any not in v}, signature


def _options(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        for option in get_args(hint):
            yield from _options(option)
    elif get_origin(hint) is Literal:
        yield hint
    else:
        kind = get_origin(hint) or hint
        yield kind if isinstance(kind, type) else Any  # a TypeVar is anything


def _check(name: str, value: Any, options: list[Any]) -> None:
    words: list[str] = []
    for option in options:
        if get_origin(option) is Literal:
            if isinstance(value, str) and value in get_args(option):
                return
            words.append(f"one of {', '.join(get_args(option))}")
        elif _is(value, option):
            return
        elif option is not NoneType:
            words.append(_NAMES.get(option, f"of type {option.__name__}"))
    said = value if isinstance(value, str | numbers.Number) else type(value).__name__
    raise UserError(f"`{name}` must be {' or '.join(dict.fromkeys(words))}, not {said!r}.")


def _is(value: Any, kind: type) -> bool:
    if getattr(kind, "_is_protocol", False):  # whatever behaves like it
        return not isinstance(value, numbers.Number | NoneType)
    if isinstance(value, bool) and kind in (int, float):
        return False
    if isinstance(value, str) and kind in (Sequence, Iterable):
        return False  # text is no list of letters
    return isinstance(value, _KINDS.get(kind, kind))


def seconds_of(budget: str) -> float:
    """Seconds of a time such as 90s, 10m, 90min, 1.5h or 1h30m; UserError for any other text."""
    units = {"h": 3600, "m": 60, "min": 60, "s": 1}
    text = str(budget).replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|min|m|s)", text)
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not seconds:
        raise UserError(f"`budget` must be a time such as 90s, 10m or 1h30m, not {budget!r}.")
    return seconds
