"""A network in a file of ONNX Runtime or OpenVINO: found, read, and used as any other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetlab.compute.execution import Execution
from resnetlab.errors import UserError
from resnetlab.files import is_address, reading, user_path
from resnetlab.inference.runtimes import SESSIONS, Runtime, Session, read_card
from resnetlab.preprocessing import Preprocessing

FORMAT = 1
"""Of the card in an exported file, which states it."""

MODEL = "model.onnx"
"""The network of a bundle."""

_ENDINGS: dict[str, Runtime] = {".onnx": "onnx", ".xml": "openvino"}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that ``resnetlab export`` has written; ``Checkpoint`` has the same names for its own.

    Raises UserError for a card of a later version, or one that is damaged.
    """

    path: Path
    runtime: Runtime
    """whose file it is"""
    card: Mapping[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float = 1.0
    threshold: float | None = None
    dataset: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    guessed: frozenset[str] = frozenset()
    origin: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Exported:
        runtime = _ENDINGS[path.suffix.lower()]
        card = read_card(path, runtime)
        if card is None:
            raise UserError(
                f"{path} has no record of its classes and preprocessing, so it was not written by "
                "`resnetlab export`; export it anew from its run or weights."
            )
        if not isinstance(card.get("format"), int) or card["format"] > FORMAT:
            raise UserError(f"{path} is of a later version of resnetlab; update this one.")
        try:
            return cls(
                path=path,
                runtime=runtime,
                card=card,
                classes=tuple(card["classes"]),
                preprocessing=Preprocessing.from_dict(card["preprocessing"]),
                temperature=card["temperature"],
                threshold=card["threshold"],
                dataset=card["dataset"],
                recipe=card["recipe"],
                origin=f"{path.name}, exported by resnetlab {card['version']}",
            )
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"the record in {path} is damaged: {error}") from error

    def open(self, runtime: Runtime, execution: Execution) -> RuntimeBackend:
        """The network in a runtime; UserError if that does not read the file."""
        if runtime == "onnx" and self.runtime != "onnx":
            raise UserError(f"{self.path} is OpenVINO's; take `backend` openvino.")
        return RuntimeBackend(
            session=SESSIONS[runtime](self.path, execution),
            classes=self.classes,
            preprocessing=self.preprocessing,
            temperature=self.temperature,
            threshold=self.threshold,
            input=self.card["input"]["type"],
        )


@dataclass(frozen=True, kw_only=True)
class RuntimeBackend:
    """A network that ONNX Runtime or OpenVINO computes; see ``Backend``."""

    session: Session
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float = 1.0
    threshold: float | None = None
    input: str = "uint8"
    """the type of pixels that the graph takes, see ``deployed.Input``"""

    @property
    def name(self) -> str:
        return self.session.name

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, channels, size, size) -> fp32 (n, classes) on the CPU."""
        return torch.from_numpy(self.run(images, "logits"))

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """See ``Backend.class_maps``."""
        if "class_maps" not in self.session.outputs:
            raise UserError(
                "this file gives no class-activation maps; export it with `class_maps`."
            )
        maps = torch.from_numpy(self.run(images, "class_maps"))
        return maps[torch.arange(len(labels)), labels]

    def run(self, images: Tensor, output: str) -> np.ndarray:
        """uint8 (n, channels, size, size) -> an output of ``deployed.OUTPUTS``, fp32."""
        pixels = np.ascontiguousarray(images.numpy())
        if self.input == "float":
            pixels = pixels.astype(np.float32) / 255
        return self.session.run(pixels, output)


def find_exported(source: str | os.PathLike[str]) -> Exported | None:
    """The exported network at a path, which may be a bundle's folder; None if there is none.

    UserError if its file is damaged, is not ours, or its runtime is not installed.
    """
    if is_address(source):
        return None
    path = user_path(source)
    with reading(path):
        if path.is_dir() and (path / MODEL).is_file():
            path = path / MODEL
        if path.suffix.lower() not in _ENDINGS or not path.is_file():
            return None
    return Exported.read(path)
