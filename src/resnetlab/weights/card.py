"""What our own files of weights say of the network beside its tensors, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnetlab.errors import UserError

FORMAT = 2
"""Written into every file. 1, without a number: mean, std and image_size for ``preprocessing``."""

FIELDS = (
    "architecture",
    "classes",
    "preprocessing",
    "temperature",
    "threshold",
    "dataset",
    "metrics",
    "recipe",
)
_FORMAT_1 = {"mean": "mean", "std": "std", "image_size": "size"}
"""Names of format 1 -> fields of ``preprocessing``."""

NAMES = ("format", "digest", *FIELDS, *_FORMAT_1)
"""All that a card may hold."""


def read_card(values: Mapping[str, Any]) -> dict[str, Any]:
    """``FIELDS`` as far as a file has them, those of an older format as they are called now.

    Raises UserError for a format that a later version has written.
    """
    if not isinstance(values.get("format", 1), int) or values.get("format", 1) > FORMAT:
        raise UserError(
            f"is of format {values['format']} and this version reads up to {FORMAT}; "
            "update it: pip install --upgrade resnetlab"
        )
    card = {name: values[name] for name in FIELDS if name in values}
    old = {new: values[name] for name, new in _FORMAT_1.items() if values.get(name) is not None}
    if old and "preprocessing" not in card:
        card["preprocessing"] = old
    return card
