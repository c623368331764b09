"""How a service behaves: its limits, each stated at its field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from resnetlab.errors import UserError
from resnetlab.records import Limit, Record


@dataclass(frozen=True, kw_only=True)
class Settings(Record):
    """Limits of a service. Raises UserError for an impossible value."""

    quote = "`"

    min_confidence: Annotated[float | None, Limit(at_least=0, at_most=100)] = None
    """%; below it an answer is "none of these". None: the network's own threshold; 0: never"""
    deadline: Annotated[float, Limit(above=0)] = 30.0
    """seconds from a request's last byte to its answer; then it is refused (504)"""
    max_queue: Annotated[int, Limit(at_least=1)] = 256
    """images that wait or are being computed in a process; beyond it, requests are refused (429)"""
    max_images: Annotated[int, Limit(at_least=1)] = 64
    """images in one request"""
    max_megabytes: Annotated[int, Limit(at_least=1)] = 32
    """of one request's body; all that are being read take at most eight times as much"""
    max_megapixels: Annotated[int, Limit(at_least=1)] = 50
    """of one image, by what its header says"""
    batch_wait: Annotated[float, Limit(at_least=0)] = 0.004
    """seconds that a batch waits for images that are still being decoded"""
    body_seconds: Annotated[float, Limit(above=0)] = 30.0
    """from a request's headers to its last byte"""
    header_seconds: Annotated[float, Limit(above=0)] = 10.0
    """from a connection's first byte, or from its opening, to a request's whole headers"""
    drain_seconds: Annotated[int, Limit(at_least=1)] = 60
    """after SIGTERM, for requests that are being answered"""

    def __post_init__(self) -> None:
        self.check()
        if self.max_images > self.max_queue:
            raise UserError(
                f"`max_queue` {self.max_queue} must be at least `max_images` {self.max_images}, or "
                "such a request would never be answered."
            )

    @property
    def max_bytes(self) -> int:
        return self.max_megabytes * 2**20
