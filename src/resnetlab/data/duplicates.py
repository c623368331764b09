"""Images that are the same, or nearly."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from resnetlab.data.survey import Survey

MOST_BITS = 6
"""By which the perceptual hashes of near-duplicates differ ..."""

MOST_DIFFERENCE = 14.0
"""... and their thumbnails, on average, in levels of 0..255.

Of 30,000 images of CIFAR-10, 97 pairs are as close as that; those that we looked at are all of one
photograph. With 8 bits they are 141, and the search takes seven times as long."""

_BANDS = MOST_BITS + 1
"""Of two hashes that differ in no more bits, one band at least is equal."""


def exact_pairs(found: Survey) -> np.ndarray:
    """Each sample whose file is byte for byte that of an earlier one, with it: int64 (m, 2)."""
    (readable,) = np.nonzero(found.faults == "")
    _, first, inverse = np.unique(
        found.digests[readable], axis=0, return_index=True, return_inverse=True
    )
    earlier = first[inverse.ravel()]
    (again,) = np.nonzero(earlier != np.arange(len(readable)))
    return np.stack([readable[earlier[again]], readable[again]], axis=1)


def near_pairs(found: Survey) -> np.ndarray:
    """Pairs of samples that look alike, as chains do: int64 (m, 2), the earlier sample first.

    Those whose hashes are equal are each paired with the first of them.
    """
    (readable,) = np.nonzero(found.faults == "")
    hashes = found.hashes[readable]
    distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    alike = np.stack([readable[first[inverse]], readable], axis=1)
    close = readable[first][_close_hashes(distinct)]
    pairs = np.concatenate([alike[alike[:, 0] != alike[:, 1]], close.reshape(-1, 2)])
    left, right = (found.thumbs[pairs[:, side]].astype(np.int16) for side in (0, 1))
    differences = np.abs(left - right).mean(axis=(1, 2, 3))
    return np.sort(pairs[differences <= MOST_DIFFERENCE], axis=1)


def _close_hashes(hashes: np.ndarray) -> np.ndarray:
    """Index pairs of distinct hashes that differ in at most ``MOST_BITS``: int64 (m, 2)."""
    width = -(-64 // _BANDS)
    found = [np.zeros((0, 2), np.int64)]
    for band in range(_BANDS):
        keys = (hashes >> np.uint64(band * width)) & np.uint64((1 << width) - 1)
        order = np.argsort(keys, kind="stable")
        keys, here = keys[order], np.arange(len(order))
        step = 0
        while len(
            here
        ):  # each with the one that comes so many steps later, while the band is equal
            step += 1
            here = here[here + step < len(order)]
            here = here[keys[here] == keys[here + step]]
            one, other = order[here], order[here + step]
            near = np.bitwise_count(hashes[one] ^ hashes[other]) <= MOST_BITS
            found.append(np.stack([one[near], other[near]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)


def grouped(n: int, pairs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """A number for each of n samples, the same where a chain of pairs or of groups leads: int64."""
    if groups is not None:
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        pairs = np.concatenate([pairs, np.stack([first[inverse], np.arange(n)], axis=1)])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)
