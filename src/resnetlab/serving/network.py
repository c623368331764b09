"""What a person names, ready to be served."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnetlab.errors import UserError
from resnetlab.preprocessing import Preprocessing
from resnetlab.serving.engine import Network

if TYPE_CHECKING:
    from resnetlab.inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Source:
    """A network by its name, which each process loads for itself."""

    network: str
    options: dict[str, Any] = field(default_factory=dict)
    """of ``Predictor``"""

    def load(self) -> Network:
        """Raises UserError: There is no such network."""
        if find_spec("torch") is None:
            from resnetlab.serving.bundle import BundleNetwork

            return BundleNetwork(self.network)
        from resnetlab.inference.predictor import Predictor

        return PredictorNetwork(Predictor(self.network, **self.options))

    @property
    def name(self) -> str:
        """What clients may know of it: no path of this computer."""
        return Path(self.network).name or self.network


class PredictorNetwork:
    """A ``Predictor`` behind numpy."""

    def __init__(self, predictor: Predictor) -> None:
        from resnetlab.inference.prepare import inference_batch_size

        backend = predictor.backend
        self._predictor = predictor
        self.name: str = backend.name
        self.classes: tuple[str, ...] = backend.classes
        self.preprocessing: Preprocessing = backend.preprocessing
        self.temperature: float = backend.temperature
        self.threshold: float | None = backend.threshold
        self.batch_size: int = inference_batch_size(backend.preprocessing.size)

    def read(self, data: bytes) -> np.ndarray:
        return self._predictor.read(data).numpy()

    def logits(self, images: np.ndarray) -> np.ndarray:
        import torch

        return self._predictor.logits(torch.from_numpy(images)).numpy()

    def class_maps(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        import torch

        try:
            maps = self._predictor.backend.class_maps(
                torch.from_numpy(images), torch.from_numpy(labels)
            )
        except UserError:  # this network gives none
            return None
        return maps.numpy()
