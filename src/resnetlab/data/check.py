"""What is wrong with a data set before anything is trained on it, and what to do about it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from resnetlab.data.collection import PARTS, UNDIVIDED, Collection
from resnetlab.data.duplicates import exact_pairs, near_pairs
from resnetlab.data.encoded import Files, some_of
from resnetlab.data.findings import Finding, Severity, finding_in
from resnetlab.data.survey import Survey, survey

TINY_CLASS = 10
IMBALANCE = 10.0
"""Images of the largest class for one of the smallest."""

LONG, SMALL = 3.0, 0.25
"""Aspect ratio; and share of the median side, from which on an image is an odd one."""

MISLEADS = {"duplicate": 0.005, "near-duplicate": 0.02}
"""Share of a split, from which on twins in another do. CIFAR-10 as published has near-duplicates of
1.2 % of its test images among those for training."""


def check(collection: Collection) -> list[Finding]:
    """All findings, the worst first; every image is decoded once (see ``survey``)."""
    found = survey(collection.samples, collection.name)
    findings = [
        *_unreadable(collection, found),
        *_classes(collection, found),
        *_duplicates(collection, found),
        *_looks(collection, found),
        *_names(collection),
    ]
    order: Sequence[Severity] = ("misleads", "warning", "note")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _unreadable(collection: Collection, found: Survey) -> Iterator[Finding]:
    (bad,) = np.nonzero(found.faults != "")
    if len(bad):
        reasons = [f"{collection.samples.path_of(i)}: {found.faults[i]}" for i in bad.tolist()]
        yield finding_in(
            collection,
            "unreadable",
            "misleads",
            f"{_images(len(bad))} cannot be read ({some_of(reasons)})",
            "repair or remove them, or train with --on-bad-image skip",
            bad,
        )


def _classes(collection: Collection, found: Survey) -> Iterator[Finding]:
    """Sizes of the classes among what there is to learn from."""
    learned = np.isin(collection.splits, (UNDIVIDED, PARTS.index("train"))) & (found.faults == "")
    counts = np.bincount(collection.labels[learned], minlength=len(collection.names))
    sizes = {name: int(n) for name, n in zip(collection.names, counts, strict=True)}
    if sum(n > 0 for n in sizes.values()) < 2:
        yield finding_in(
            collection,
            "one class",
            "misleads",
            "all training images are of one class",
            "add images of another: there is nothing to tell apart",
        )
    none = [name for name, n in sizes.items() if n == 0]
    if none:
        yield finding_in(
            collection,
            "unknown class",
            "misleads",
            f"of {some_of(none)} there are no training images",
            "add some, or remove the class from the other splits",
        )
    one = [name for name, n in sizes.items() if n == 1]
    tiny = [f"{name} {n}" for name, n in sizes.items() if 1 < n < TINY_CLASS]
    if one:
        yield finding_in(
            collection,
            "one image",
            "misleads",
            f"of {some_of(one)} there is one training image, so nothing can be held out",
            "add images, or leave the class out",
        )
    if tiny:
        yield finding_in(
            collection,
            "tiny class",
            "warning",
            f"few training images: {some_of(tiny)}",
            "add images; accuracy on these classes will be a matter of chance",
        )
    largest, smallest = max(sizes.values()), min((n for n in sizes.values() if n), default=0)
    if smallest and largest / smallest > IMBALANCE:
        few, many = (next(k for k, n in sizes.items() if n == x) for x in (smallest, largest))
        yield finding_in(
            collection,
            "imbalance",
            "warning",
            f"{many} has {largest:,} training images and {few} has {smallest:,}",
            "judge by balanced accuracy, and weight the classes: --class-weights, --balanced",
        )
    for part in (1, 2):
        here = collection.labels[collection.splits == part]
        missing = [collection.names[i] for i in np.setdiff1d(collection.labels, here)]
        if len(here) and missing:
            yield finding_in(
                collection,
                "missing class",
                "warning",
                f"{PARTS[part]} has no images of {some_of(missing)}",
                "move some there; nothing is known of a class that is not judged",
            )


def _duplicates(collection: Collection, found: Survey) -> Iterator[Finding]:
    exact, near = exact_pairs(found), near_pairs(found)
    known = {tuple(pair) for pair in exact.tolist()}
    near = np.array([p for p in near.tolist() if tuple(p) not in known], np.int64).reshape(-1, 2)
    for kind, pairs in (("duplicate", exact), ("near-duplicate", near)):
        labels, splits = collection.labels[pairs], collection.splits[pairs]
        across = splits[:, 0] != splits[:, 1]
        other = labels[:, 0] != labels[:, 1]
        if across.any():
            share = _leaked(collection, pairs[across])
            yield finding_in(
                collection,
                f"{kind}s across splits",
                "misleads" if share > MISLEADS[kind] else "warning",
                f"{across.sum():,} {kind} {_pair(across)} in two splits "
                f"({_pairs(collection, pairs, across)}), up to {share:.2%} of a split",
                "remove one of each pair: what was trained on cannot judge",
                pairs[across].ravel(),
            )
        if other.any():
            yield finding_in(
                collection,
                f"{kind}s of two classes",
                "misleads" if kind == "duplicate" else "warning",
                f"{other.sum():,} {kind} {_pair(other)} with two labels "
                f"({_pairs(collection, pairs, other)})",
                "correct the label of one, or remove it",
                pairs[other].ravel(),
            )
        rest = ~across & ~other
        if rest.any():
            yield finding_in(
                collection,
                f"{kind}s",
                "note",
                f"{rest.sum():,} {kind} {_pair(rest)} within a split "
                f"({_pairs(collection, pairs, rest)})",
                "remove one of each pair; a split that is drawn here keeps them together",
                pairs[rest].ravel(),
            )


def _leaked(collection: Collection, pairs: np.ndarray) -> float:
    """The largest share of a split that has a twin in a split before it: train, val, test."""
    splits = collection.splits[pairs]
    later = np.where(splits[:, 0] > splits[:, 1], pairs[:, 0], pairs[:, 1])
    found = collection.splits[np.unique(later)]
    parts = np.unique(found)
    return max(float((found == part).sum() / (collection.splits == part).sum()) for part in parts)


def _looks(collection: Collection, found: Survey) -> Iterator[Finding]:
    readable = found.faults == ""
    if not readable.any():
        return
    grey = found.grey & readable
    if 0 < grey.sum() < 0.5 * readable.sum():
        yield finding_in(
            collection,
            "grey",
            "warning",
            f"{_images(grey.sum())} of {readable.sum():,} without colour",
            "see that they are of all classes, or a network learns that grey means one of them",
            np.nonzero(grey)[0],
        )
    sides = found.sizes.astype(float)
    sides[~readable] = 1
    shorter, longer = sides.min(1), sides.max(1)
    long = readable & (longer / shorter > LONG)
    if long.any():
        yield finding_in(
            collection,
            "long and narrow",
            "warning",
            f"{_images(long.sum())} over {LONG:g} times as long as wide: the crop shows a part",
            "cut them yourself",
            np.nonzero(long)[0],
        )
    median = float(np.median(shorter[readable]))
    small = readable & (shorter < SMALL * median)
    if small.any():
        yield finding_in(
            collection,
            "small",
            "warning",
            f"{_images(small.sum())} far smaller than others (under {SMALL * median:.0f} "
            f"pixels, where half have {median:.0f} or more)",
            "look whether they are thumbnails, and find the originals",
            np.nonzero(small)[0],
        )
    turned = readable & (found.turned != 1)
    if turned.any():
        yield finding_in(
            collection,
            "turned",
            "note",
            f"{_images(turned.sum())} turned by EXIF data",
            "none needed: they are turned upright here; other programs may not do so",
            np.nonzero(turned)[0],
        )


def _names(collection: Collection) -> Iterator[Finding]:
    alike = _same_but_for_case(collection.names)
    if alike:
        yield finding_in(
            collection,
            "class names",
            "misleads",
            f"classes differ in case only: {some_of(alike)}",
            "join them if they are one class",
        )
    paths = [collection.samples.path_of(i) for i in range(len(collection))]
    files = [path for path in _same_but_for_case(paths) if path not in alike]
    if files and not alike:
        yield finding_in(
            collection,
            "file names",
            "warning",
            f"files differ in case only: {some_of(files)}",
            "rename one: Windows and macOS keep one of the two",
        )
    if isinstance(collection.samples, Files):
        root = collection.samples.root
        folders = {os.path.dirname(path) for path in paths}
        links = [path for path in [*sorted(folders), *paths] if (root / path).is_symlink()]
        if links:
            yield finding_in(
                collection,
                "links",
                "note",
                f"{len(links):,} symbolic links ({some_of(links)})",
                "none needed; a copy for another machine must follow them",
            )


def _same_but_for_case(names: Iterable[str]) -> list[str]:
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[name.casefold()].append(name)
    return [" and ".join(same) for same in spellings.values() if len(same) > 1]


def _images(count: int) -> str:
    return f"{count:,} image{'s' if count != 1 else ''}"


def _pair(which: np.ndarray) -> str:
    return "pair" if which.sum() == 1 else "pairs"


def _pairs(collection: Collection, pairs: np.ndarray, which: np.ndarray) -> str:
    name = collection.samples.path_of
    return some_of([f"{name(i)} = {name(j)}" for i, j in pairs[which].tolist()], 2)


def counts(collection: Collection) -> list[dict[str, Any]]:
    """For each class its images in each split, a dictionary a row."""
    tally = Counter(zip(collection.labels.tolist(), collection.splits.tolist(), strict=True))
    parts = [UNDIVIDED] if not collection.has_own_splits else list(range(len(PARTS)))
    names = {UNDIVIDED: "images"} | dict(enumerate(PARTS))
    return [
        {"class": name} | {names[part]: tally[label, part] for part in parts}
        for label, name in enumerate(collection.names)
    ]
