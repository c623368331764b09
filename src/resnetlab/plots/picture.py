"""The path of a picture, which a notebook shows as the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

_Path = Path if TYPE_CHECKING else type(Path())
"""Before Python 3.12, only the class of this system's paths can have subclasses."""


class Picture(_Path):
    """A path like any other; at the end of a notebook's cell its picture stands below it."""

    def _repr_png_(self) -> bytes | None:
        return self.read_bytes() if self.suffix.lower() == ".png" and self.is_file() else None

    def _repr_svg_(self) -> str | None:
        return self.read_text("utf-8") if self.suffix.lower() == ".svg" and self.is_file() else None
