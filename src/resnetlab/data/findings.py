"""What was found in a data set, and how bad it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from resnetlab.data.collection import Collection

Severity = Literal["misleads", "warning", "note"]
"""misleads: a network trained on it would be wrong, or its accuracy would be."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of fault, with all images that have it."""

    kind: str
    severity: Severity
    text: str
    """what is the case, in a sentence without its full stop"""
    remedy: str
    images: tuple[int, ...] = ()
    """numbers of samples; of pairs, one after the other"""
    paths: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        names = ("kind", "severity", "text", "remedy")
        return {name: getattr(self, name) for name in names} | {"images": list(self.paths)}


def finding_in(
    collection: Collection,
    kind: str,
    severity: Severity,
    text: str,
    remedy: str,
    images: Iterable[int] = (),
) -> Finding:
    numbers = tuple(int(i) for i in images)
    paths = tuple(map(collection.samples.path_of, numbers))
    return Finding(
        kind=kind, severity=severity, text=text, remedy=remedy, images=numbers, paths=paths
    )
