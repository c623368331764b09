"""The formats: each written into a folder, and opened again in its own runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from resnetlab.compute.execution import Execution
from resnetlab.inference.backends import Backend, TorchBackend
from resnetlab.inference.deployed import OUTPUTS, Input, export_program, missing, to_onnx
from resnetlab.inference.exported import Exported, RuntimeBackend
from resnetlab.inference.runtimes import openvino_core
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint

Format = Literal["onnx", "openvino", "torch", "safetensors", "bundle"]
SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torch": ".pt2",
    "safetensors": ".safetensors",
    "bundle": ".onnx",
}


def write(
    checkpoint: Checkpoint,
    path: Path,
    format: Format,
    card: Mapping[str, Any],
    *,
    input: Input = "uint8",
    class_maps: bool = False,
    calibration: Tensor | None = None,
) -> None:
    """Write a network.

    Args:
        checkpoint: The network.
        path: A file with the format's suffix; OpenVINO's weights lie beside it as .bin.
        format: Of the file.
        card: Goes into it.
        input: Pixels that its graph takes.
        class_maps: Whether the graph gives class-activation maps.
        calibration: Training images, uint8 (n, channels, size, size), for int8; None: fp32.
    """
    if format == "safetensors":
        checkpoint.save(path)
        return
    program = export_program(checkpoint, input=input, class_maps=class_maps)
    if format == "torch":
        torch.export.save(program, path, extra_files={"resnetlab.json": json.dumps(card)})
        return
    model = to_onnx(program, card)
    if input == "float" and calibration is not None:
        calibration = calibration.float() / 255
    if format == "openvino":
        _write_openvino(model, path, card, calibration)
        return
    if calibration is not None:
        from resnetlab.export.int8 import quantize_onnx

        model = quantize_onnx(model, calibration, path.parent)
    path.write_bytes(model)


def _write_openvino(
    onnx: bytes, path: Path, card: Mapping[str, Any], calibration: Tensor | None
) -> None:
    try:
        import openvino
    except ImportError as error:
        raise missing("OpenVINO", error) from error
    if calibration is None:
        model = openvino_core().read_model(onnx)
    else:
        from resnetlab.export.int8 import quantize_openvino

        model = quantize_openvino(onnx, calibration)
    model.set_rt_info(json.dumps(card), ["resnetlab"])
    # Its default stores weights in fp16, which changes answers.
    openvino.save_model(model, path, compress_to_fp16=False)


def open_written(checkpoint: Checkpoint, path: Path, format: Format, how: Execution) -> Backend:
    """What was written, in the runtime that it is for."""
    if format == "safetensors":
        return TorchBackend.load(load_checkpoint(path), how)
    if format == "torch":
        return RuntimeBackend(
            session=_ProgramSession(path),
            classes=checkpoint.classes,
            preprocessing=checkpoint.preprocessing,
            temperature=checkpoint.temperature,
            input=_program_input(path),
        )
    exported = Exported.read(path)
    return exported.open(exported.runtime, how)


class _ProgramSession:
    """A .pt2 file, loaded as whoever gets it would load it."""

    name = "PyTorch (torch.export)"

    def __init__(self, path: Path) -> None:
        self._module = torch.export.load(path).module()
        self.outputs = frozenset(OUTPUTS)

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        with torch.inference_mode():
            found = self._module(torch.from_numpy(images))
        return found[OUTPUTS.index(output)].numpy()


def _program_input(path: Path) -> str:
    extra = {"resnetlab.json": ""}
    torch.export.load(path, extra_files=extra)
    return json.loads(extra["resnetlab.json"])["input"]["type"]
