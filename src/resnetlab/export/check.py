"""Whether an exported network answers as the one that it was made of, and how fast it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from resnetlab.compute.turns import seconds_in_turn
from resnetlab.errors import UserError
from resnetlab.inference.backends import Backend

BATCHES = (1, 2, 3, 16)
"""Numbers of images at once that are compared: an export may have frozen one of them."""

TOLERANCE = 1e-4
"""By how much logits in fp32 may differ, as a share of the largest; what was measured of sound
exports is below 1e-5."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """An exported network beside PyTorch's in fp32, on the same images."""

    runtime: str
    """what computed it"""
    images: str
    """which images were compared"""
    n: int
    differ: int
    """images whose likeliest class differs"""
    largest_difference: float
    """of the logits, as a share of the largest logit"""
    top1: float | None
    """% of the exported network; None: the images have no labels"""
    reference_top1: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Images a second in the best of several rounds, measured in turn in one process."""

    name: str
    n: int
    """images at once"""
    rate: float
    ratio: float
    """to PyTorch's fp32 eager"""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_batches(reference: Backend, exported: Backend, images: Tensor, what: str) -> None:
    """Compare the logits of real images in batches of ``BATCHES``.

    Args:
        reference: PyTorch's, in fp32.
        exported: The same network in its runtime, in fp32.
        images: uint8 (n, channels, size, size); fewer than a batch are repeated.
        what: The file, in messages.

    Raises:
        UserError: The runtime refuses a batch, or its logits differ by more than ``TOLERANCE``.
    """
    for n in BATCHES:
        batch = images[torch.arange(n) % len(images)]
        wanted = reference.logits(batch)
        try:
            found = exported.logits(batch)
        except Exception as error:  # each runtime raises its own kinds
            first = str(error).strip().splitlines()[:1]
            raise mismatch(what, f"{exported.name} refuses {n} images at once ({first})") from error
        require_close(wanted, found, f"{n} images at once", what)


def require_close(wanted: Tensor, found: Tensor, where: str, what: str) -> float:
    """The largest difference, as a share of the largest logit; UserError above ``TOLERANCE``."""
    if found.shape != wanted.shape:
        raise mismatch(what, f"logits of shape {list(found.shape)}, not {list(wanted.shape)}")
    difference = _difference(wanted, found)
    if not difference <= TOLERANCE:  # so that NaN fails
        raise mismatch(
            what,
            f"its logits differ from PyTorch's by {difference:.1e} of the largest, {where}; "
            f"at most {TOLERANCE:.0e} is rounding",
        )
    return difference


def _difference(wanted: Tensor, found: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))


def mismatch(what: str, reason: str) -> UserError:
    return UserError(
        f"{what} does not answer as the network that it was made of: {reason}. No file was written."
    )


def replay(
    reference: Backend,
    exported: Backend,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    *,
    images: str,
    what: str,
    exact: bool = True,
) -> Check:
    """Compare both on all of some images, batch by batch.

    Args:
        reference: PyTorch's, in fp32.
        exported: The same network in its runtime.
        batches: uint8 (n, channels, size, size), and the labels int64 (n,) if there are any.
        images: Which images these are, in words.
        what: The file, in messages.
        exact: Whether the logits must be equal up to rounding; not those of int8.

    Raises:
        UserError: They must, and are not.
    """
    n = differ = right = reference_right = 0
    largest, labelled = 0.0, True
    for pixels, labels in batches:
        wanted, found = reference.logits(pixels), exported.logits(pixels)
        if exact:
            largest = max(largest, require_close(wanted, found, images, what))
        else:
            largest = max(largest, _difference(wanted, found))
        answers, reference_answers = found.argmax(1), wanted.argmax(1)
        n += len(pixels)
        differ += int((answers != reference_answers).sum())
        labelled = labelled and labels is not None
        if labels is not None:
            right += int((answers == labels).sum())
            reference_right += int((reference_answers == labels).sum())
    return Check(
        runtime=exported.name,
        images=images,
        n=n,
        differ=differ,
        largest_difference=largest,
        top1=100 * right / n if labelled else None,
        reference_top1=100 * reference_right / n if labelled else None,
    )


def speeds(backends: Mapping[str, Backend], images: Tensor, sizes: Sequence[int]) -> list[Speed]:
    """Each backend on batches of each size, in turn; the first is what the ratios are to.

    Args:
        backends: By name.
        images: uint8 (n, channels, size, size); fewer than a batch are repeated.
        sizes: Images at once.
    """
    found = []
    for n in sizes:
        batch = images[torch.arange(n) % len(images)].contiguous()
        works = {name: partial(backend.logits, batch) for name, backend in backends.items()}
        times = seconds_in_turn(works)
        # Others' work on the machine only ever adds time.
        best = {name: min(seconds) for name, seconds in times.items()}
        base = best[next(iter(backends))]
        found += [Speed(name=k, n=n, rate=n / s, ratio=base / s) for k, s in best.items()]
    return found
