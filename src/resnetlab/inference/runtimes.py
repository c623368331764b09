"""ONNX Runtime and OpenVINO: a file, or its bytes, made ready to compute."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import default_threads
from resnetlab.errors import UserError, reason_of
from resnetlab.inference.deployed import missing

Runtime = Literal["onnx", "openvino"]


class Session(Protocol):
    """A graph that a runtime has loaded; threads may call it at once."""

    @property
    def name(self) -> str:
        """The runtime and how it computes, in words."""
        ...

    @property
    def card(self) -> Mapping[str, Any] | None:
        """What ``resnetlab export`` has written into the file; None if it is no file of ours."""
        ...

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the outputs, see ``deployed.OUTPUTS``."""
        ...

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        """Pixels (n, channels, size, size), in the file's type -> one of its outputs."""
        ...


class OnnxSession:
    """ONNX Runtime on the CPU."""

    def __init__(self, source: Path | bytes, execution: Execution) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise missing("ONNX Runtime", error) from error
        options = onnxruntime.SessionOptions()
        threads = execution.threads or default_threads()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = source if isinstance(source, bytes) else str(source)
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of several kinds, all of its own
            raise unreadable(source, error) from error
        found = self._session.get_modelmeta().custom_metadata_map.get("resnetlab")
        self.card: Mapping[str, Any] | None = json.loads(found) if found else None
        self.outputs = frozenset(output.name for output in self._session.get_outputs())
        self.name = f"ONNX Runtime (fp32, threads={threads})"

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        (found,) = self._session.run([output], {"images": images})
        return np.asarray(found)


class OpenVinoSession:
    """OpenVINO on the CPU, in fp32 or bf16 as the execution says."""

    def __init__(self, source: Path | bytes, execution: Execution) -> None:
        try:
            import openvino
        except ImportError as error:
            raise missing("OpenVINO", error) from error
        threads = execution.threads or default_threads()
        core = openvino.Core()
        precision = "bf16" if execution.precision == "bf16" else "f32"  # its own default is bf16
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,  # it knows no CPU quota
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            model = core.read_model(source if isinstance(source, bytes) else str(source))
            found = _card_of(model)
            self._compiled = core.compile_model(model, "CPU", options)
        except Exception as error:  # RuntimeError, and kinds of its own
            raise unreadable(source, error) from error
        self.card: Mapping[str, Any] | None = found
        self.outputs = frozenset(
            name for output in self._compiled.outputs for name in output.get_names()
        )
        self.name = f"OpenVINO ({execution.precision}, threads={threads})"
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        with self._lock:
            self._request.infer({0: images}, share_inputs=True, decode_strings=False)
            return self._request.get_tensor(output).data.copy()


def _card_of(model: Any) -> Mapping[str, Any] | None:
    """Of a file of OpenVINO's own, or of an ONNX file that it has read."""
    for place in (["resnetlab"], ["framework", "resnetlab"]):
        if model.has_rt_info(place):
            return json.loads(model.get_rt_info(place).astype(str))
    return None


def unreadable(source: Path | bytes, error: Exception) -> UserError:
    name = "the converted network" if isinstance(source, bytes) else source
    return UserError(f"{name} cannot be loaded: {reason_of(error)}")


SESSIONS: dict[Runtime, type[OnnxSession] | type[OpenVinoSession]] = {
    "onnx": OnnxSession,
    "openvino": OpenVinoSession,
}
