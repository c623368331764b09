"""Networks in int8: quantised on training images, for OpenVINO and for ONNX Runtime."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.export.check import Check, Speed
from resnetlab.inference.deployed import missing
from resnetlab.inference.runtimes import openvino_core

CALIBRATION = 300
"""Training images from which the ranges of activations are read."""

LARGEST_FALL = 0.5
"""Points of accuracy that int8 may cost."""


def quantize_openvino(model: bytes, images: Tensor) -> Any:
    """An ONNX network as an OpenVINO model in int8, calibrated on uint8 (n, c, size, size)."""
    try:
        with _quiet_nncf():
            import nncf
    except ImportError as error:
        raise missing("int8", error) from error
    batches = [images[i : i + 1].numpy() for i in range(len(images))]
    with _quiet_nncf():
        return nncf.quantize(
            openvino_core().read_model(model),
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
        )


@contextmanager
def _quiet_nncf() -> Iterator[None]:
    """Without its telemetry, its progress bars and its log."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # how it is told to send nothing; read when it is imported
    for name in ("nncf", "torch.utils.cpp_extension"):  # the latter is looked for by the former
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before


def quantize_onnx(model: bytes, images: Tensor, folder: Path) -> bytes:
    """An ONNX network with quantise-dequantise pairs (QDQ), calibrated likewise.

    ``folder``: for files that are needed meanwhile.
    """
    try:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise missing("int8", error) from error

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[np.ndarray] = (images[i : i + 16].numpy() for i in _starts(images))

        def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
            batch = next(self._left, None)
            return None if batch is None else {"images": batch}

    plain, prepared, result = (folder / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
    plain.write_bytes(model)
    card = {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # which it writes to
    try:
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "Add", "Relu", "MaxPool", "ReduceMean"],
            # The normalisation stays as it is: pixels have their 256 values already.
            nodes_to_exclude=_before_the_first_convolution(prepared),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.root.setLevel(level)
    quantized = onnx.load(result)
    onnx.helper.set_model_props(quantized, card)
    return quantized.SerializeToString()


def _starts(images: Tensor) -> range:
    return range(0, len(images), 16)


def _before_the_first_convolution(path: Path) -> list[str]:
    import onnx

    names = []
    for node in onnx.load(path).graph.node:
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


def require_worthwhile(check: Check, floats: Speed, quantized: Speed, what: str) -> None:
    """UserError, with both numbers, where int8 costs accuracy or gains no speed.

    Args:
        check: On labelled images.
        floats: Of the same runtime without int8, computing as fast as it can here.
        quantized: Of the int8 network, measured in turn with it.
        what: The file.
    """
    assert check.top1 is not None
    assert check.reference_top1 is not None
    fall = check.reference_top1 - check.top1
    ratio = quantized.ratio / floats.ratio
    faults = []
    if fall > LARGEST_FALL:
        faults.append(
            f"accuracy falls by {fall:.2f} points, from {check.reference_top1:.2f} to "
            f"{check.top1:.2f} % of {check.n:,} images (at most {LARGEST_FALL} is kept)"
        )
    if ratio <= 1:
        faults.append(
            f"it runs at {ratio:.2f} times the speed of {floats.name} here, {quantized.n} images "
            "at once"
        )
    if faults:
        raise UserError(
            f"`int8` is not worth it for {what}: {', and '.join(faults)}. No file was written; "
            "export it without."
        )
