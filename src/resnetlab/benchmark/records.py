"""Rows of the tables: what one measurement says, as values, cells and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Images a second over several repetitions of one batch."""

    batch_size: int
    images_per_second: float
    """median"""
    low: float
    """images/s, lower quartile"""
    high: float
    """images/s, upper quartile"""
    ms_per_step: float
    """median"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def cells(self) -> dict[str, str]:
        """Heading -> cell of a table, the important first; that of a number ends in ``*``."""
        return {
            "batch*": f"{self.batch_size:,}",
            "images/s*": _short(self.images_per_second),
            "quartiles*": f"{_short(self.low)} to {_short(self.high)}",
            "ms a step*": _short(self.ms_per_step),
        }


@dataclass(frozen=True, kw_only=True)
class NetworkRate(Rate):
    """The speed of one network in training or inference, and how near the machine's limit it is."""

    job: Literal["training", "inference"]
    model: str
    image_size: int
    execution: str
    parameters: int
    multiply_adds: int
    """of the forward pass of one image"""
    gflops: float
    """reached, counting two operations a multiply-add, and three forward passes a training step;
    execution winograd does a quarter of those that are counted, so its share may pass 100 %"""
    matrix_product_gflops: float
    """that a large product reached just after, in bf16 where the machine has it, else in fp32"""
    convolution_gflops: float
    """that a large 3x3 convolution reached, likewise"""
    peak_memory_mb: float
    """of the process, or of the GPU"""

    @property
    def share_of_matrix_product(self) -> float:
        """%"""
        return 100 * self.gflops / self.matrix_product_gflops

    @property
    def share_of_convolution(self) -> float:
        """%"""
        return 100 * self.gflops / self.convolution_gflops

    def to_dict(self) -> dict[str, Any]:
        shares = ("share_of_matrix_product", "share_of_convolution")
        return super().to_dict() | {name: getattr(self, name) for name in shares}

    def cells(self) -> dict[str, str]:
        return {
            "network": self.model,
            **super().cells(),
            "execution": self.execution,
            "of a product*": f"{self.share_of_matrix_product:.0f} %",
            "of a convolution*": f"{self.share_of_convolution:.0f} %",
            "GFLOP/s*": _short(self.gflops),
            "peak MB*": f"{self.peak_memory_mb:,.0f}",
            "pixels*": str(self.image_size),
            "multiply-adds*": f"{self.multiply_adds:,}",
            "parameters*": f"{self.parameters:,}",
        }


@dataclass(frozen=True, kw_only=True)
class FileRate(Rate):
    """The speed of predictions for image files; ``ms_per_step`` is that of a batch."""

    job: Literal["files"] = "files"
    model: str
    image_size: int
    execution: str
    files: str
    """the folder that they are in, or what was made: "JPEG of 500 x 375" pixels"""
    decoder_images_per_second: float
    """reading and decoding alone, in all threads"""
    network_images_per_second: float
    """the network alone, on decoded images"""

    @property
    def limit(self) -> Literal["decoder", "network"]:
        """The slower of the two."""
        slower = self.decoder_images_per_second < self.network_images_per_second
        return "decoder" if slower else "network"

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"limit": self.limit}

    def cells(self) -> dict[str, str]:
        return {
            "network": self.model,
            **super().cells(),
            "limit": self.limit,
            "decoder alone*": _short(self.decoder_images_per_second),
            "network alone*": _short(self.network_images_per_second),
            "execution": self.execution,
            "files": self.files,
            "pixels*": str(self.image_size),
        }


@dataclass(frozen=True, kw_only=True)
class DataRate(Rate):
    """The speed of one thing that is done to images before a network sees them."""

    what: str

    def cells(self) -> dict[str, str]:
        return {"what": self.what, **super().cells()}


Row = NetworkRate | FileRate | DataRate


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings, those of numbers with a ``*`` at the end, and cells; rows must be of one kind."""
    cells = [row.cells() for row in rows]
    return list(cells[0]) if cells else [], [list(row.values()) for row in cells]


def _short(value: float) -> str:
    """Three digits of a positive number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
