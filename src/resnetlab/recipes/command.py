"""The command that trains a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES


def train_command(recipe: Recipe, *, out: Path | None = None) -> list[str]:
    """Its words: the recipe of that name, and an option for each field that differs from it.

    A recipe whose name is not in the table is stated by all that differs from the first one.
    """
    name = recipe.name if recipe.name in RECIPES else next(iter(RECIPES))
    words = ["resnetlab", "train", name]
    for field in fields(Recipe):
        value = getattr(recipe, field.name)
        if value != getattr(RECIPES[name], field.name) and value is not None:
            words += [f"--{field.name.replace('_', '-')}", *_words(value)]
    return words if out is None else [*words, "--out", str(out)]


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (str(word) for pair in value.items() for word in pair)
    elif isinstance(value, tuple):
        yield from map(str, value)
    else:
        yield str(int(value) if isinstance(value, float) and value.is_integer() else value)
