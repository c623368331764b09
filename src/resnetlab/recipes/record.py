"""The recipe: everything that decides a training."""

from __future__ import annotations

from dataclasses import dataclass

from resnetlab.recipes.sections import (
    Augmentation,
    Data,
    General,
    Network,
    Optimizer,
    Schedule,
    Tuning,
)


@dataclass(frozen=True, kw_only=True)
class Recipe(Tuning, Augmentation, Optimizer, Schedule, Data, Network, General):
    """How to train a network: the fields of all sections side by side, in one flat record.

    Raises UserError, one sentence, for an impossible value.
    """

    # A dataclass takes the fields of its last base first.
