"""A network that ``resnetlab export`` wrote, served where there is no torch.

With onnxruntime, numpy and Pillow a container has a tenth of the size. The numbers are those of
``--backend onnx``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from resnetlab.compute.machine import available_cores
from resnetlab.errors import UserError, reason_of
from resnetlab.preprocessing import Preprocessing

_PIXELS_AT_ONCE = 2**20
"""In a batch, but at most 256 images; as ``inference_batch_size`` has it."""


class BundleNetwork:
    """The ONNX file of a bundle. Raises UserError where there is none, or it is not ours."""

    def __init__(self, source: str) -> None:
        import onnxruntime

        path = Path(source).expanduser()
        file = path / "model.onnx" if path.is_dir() else path
        if file.suffix != ".onnx" or not file.is_file():
            raise UserError(
                f"without PyTorch only a bundle or an exported .onnx file can be served: {path}"
            )
        options = onnxruntime.SessionOptions()
        threads = int(os.environ.get("OMP_NUM_THREADS") or available_cores())
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
            card = json.loads(self._session.get_modelmeta().custom_metadata_map["resnetlab"])
        except Exception as error:  # onnxruntime has kinds of its own
            raise UserError(f"cannot read {file}: {reason_of(error)}") from error
        self._scale = np.float32(1 / 255) if card["input"]["type"] == "float" else None
        self._has_maps = "class_maps" in {each.name for each in self._session.get_outputs()}
        self.name = f"ONNX Runtime (fp32, threads={threads})"
        self.classes = tuple(card["classes"])
        self.preprocessing = Preprocessing.from_dict(card["preprocessing"])
        self.temperature: float = card["temperature"]
        self.threshold: float | None = card["threshold"]
        self.batch_size = max(1, min(256, _PIXELS_AT_ONCE // self.preprocessing.size**2))

    def read(self, data: bytes) -> np.ndarray:
        p = self.preprocessing
        try:
            image = p.read(data)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UserError(
                f"cannot read the image: more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it "
                "smaller"
            ) from error
        except Image.UnidentifiedImageError as error:
            raise UserError(
                "cannot read the image: not an image, or of an unknown format"
            ) from error
        except Exception as error:  # decoders raise whatever a broken file provokes
            raise UserError(f"cannot read the image: {reason_of(error)}") from error
        pixels = np.asarray(image).reshape(p.size, p.size, p.channels)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self._run(images, "logits")

    def class_maps(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        if not self._has_maps:
            return None
        return self._run(images, "class_maps")[np.arange(len(labels)), labels]

    def _run(self, images: np.ndarray, output: str) -> np.ndarray:
        pixels = images if self._scale is None else images * self._scale
        (found,) = self._session.run([output], {"images": pixels})
        return np.asarray(found)
