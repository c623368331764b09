"""Randomness derived from numbers: nothing random has a state that needs saving.

Step 17 of epoch 3 draws the same numbers in an unbroken run, in a resumed one and on any rank.
"""

from __future__ import annotations

import hashlib

import torch


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
