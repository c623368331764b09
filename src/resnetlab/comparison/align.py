"""Two rows of things laid side by side at the least cost (Needleman and Wunsch, 1970)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def align(
    theirs: Sequence[T],
    ours: Sequence[T],
    cost: Callable[[T, T], float],
    gap: Callable[[T], float],
) -> list[tuple[T | None, T | None]]:
    """Pairs in order; None where one side has nothing. ``cost`` of a pair, ``gap`` of a single."""
    rows, columns = len(theirs) + 1, len(ours) + 1
    best = [[0.0] * columns for _ in range(rows)]
    for i in range(1, rows):
        best[i][0] = best[i - 1][0] + gap(theirs[i - 1])
    for j in range(1, columns):
        best[0][j] = best[0][j - 1] + gap(ours[j - 1])
    for i in range(1, rows):
        for j in range(1, columns):
            best[i][j] = min(
                best[i - 1][j - 1] + cost(theirs[i - 1], ours[j - 1]),
                best[i - 1][j] + gap(theirs[i - 1]),
                best[i][j - 1] + gap(ours[j - 1]),
            )
    pairs: list[tuple[T | None, T | None]] = []
    i, j = rows - 1, columns - 1
    while i or j:
        here = best[i][j]
        if i and j and here == best[i - 1][j - 1] + cost(theirs[i - 1], ours[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((theirs[i], ours[j]))
        elif i and here == best[i - 1][j] + gap(theirs[i - 1]):
            i -= 1
            pairs.append((theirs[i], None))
        else:
            j -= 1
            pairs.append((None, ours[j]))
    return pairs[::-1]
