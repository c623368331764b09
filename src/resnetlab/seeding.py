"""Randomness derived from numbers: nothing random has a state that needs saving.

Step 17 of epoch 3 draws the same numbers in an unbroken run, in a resumed one and on any rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def fold_in(seed: int, *values: int | str) -> int:
    """A seed of 63 bits from a seed and anything that tells streams apart.

    `fold_in(seed, "crop", epoch, step)`; neighbouring values give unrelated seeds, which
    adding or multiplying them would not.
    """
    digest = hashlib.blake2b(repr((seed, *values)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded_generator(seed: int, *values: int | str) -> torch.Generator:
    """A CPU generator of its own for one purpose; the global generator stays untouched."""
    return torch.Generator().manual_seed(fold_in(seed, *values))


class DrawsFrom(TorchFunctionMode):
    """In its body, whatever torch draws in this thread comes from ``generator``.

    torchvision's transforms draw from the global generator, which all threads share. The numbers
    are those that they would have drawn from it after a ``manual_seed`` of the same seed.
    """

    DRAWS = frozenset(
        {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
        | {"uniform_", "normal_", "random_", "bernoulli_", "exponential_"}
    )
    """Names of what is drawn with."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in self.DRAWS:
            kwargs = {"generator": self._generator, **kwargs}
        return func(*args, **kwargs)
