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
    def outputs(self) -> frozenset[str]:
        """Names of the outputs, see ``deployed.OUTPUTS``."""
        ...

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        """Pixels (n, channels, size, size), in the file's type -> one of its outputs."""
        ...


class OnnxSession:
    """ONNX Runtime on the CPU."""

    def __init__(self, source: Path | bytes, execution: Execution) -> None:
        threads = execution.threads or default_threads()
        self._session = _onnx_session(source, threads)
        self.outputs = frozenset(output.name for output in self._session.get_outputs())
        self.name = f"ONNX Runtime (fp32, threads={threads})"

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        (found,) = self._session.run([output], {"images": images})
        return np.asarray(found)


def _onnx_session(source: Path | bytes, threads: int, *, optimize: bool = True) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("ONNX Runtime", error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of several kinds, all of its own
        raise _unreadable(source, error) from error


class OpenVinoSession:
    """OpenVINO on the CPU, in fp32 or bf16 as the execution says."""

    def __init__(self, source: Path | bytes, execution: Execution) -> None:
        threads = execution.threads or default_threads()
        core, model = _openvino_model(source)
        options = {
            # Its own default is bf16 where the CPU has it.
            "INFERENCE_PRECISION_HINT": "bf16" if execution.precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,  # it knows no CPU quota
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise _unreadable(source, error) from error
        self.outputs = frozenset(name for output in compiled.outputs for name in output.names)
        self.name = f"OpenVINO ({execution.precision}, threads={threads})"
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        with self._lock:
            self._request.infer({0: images}, share_inputs=True)
            return self._request.get_tensor(output).data.copy()


def _openvino_model(source: Path | bytes) -> tuple[Any, Any]:
    """OpenVINO itself, and what it read."""
    try:
        import openvino
    except ImportError as error:
        raise missing("OpenVINO", error) from error
    core = openvino.Core()
    try:
        return core, core.read_model(source if isinstance(source, bytes) else str(source))
    except RuntimeError as error:
        raise _unreadable(source, error) from error


def read_card(path: Path, runtime: Runtime) -> Mapping[str, Any] | None:
    """What ``resnetlab export`` has written into a file; None if it is no file of ours.

    UserError if the file is damaged, or its runtime is not installed.
    """
    if runtime == "onnx":
        session = _onnx_session(path, 1, optimize=False)
        text = session.get_modelmeta().custom_metadata_map.get("resnetlab")
    else:
        _, model = _openvino_model(path)
        ours = model.has_rt_info(["resnetlab"])
        text = model.get_rt_info(["resnetlab"]).astype(str) if ours else None
    return json.loads(text) if text else None


def _unreadable(source: Path | bytes, error: Exception) -> UserError:
    name = "the converted network" if isinstance(source, bytes) else source
    return UserError(f"{name} cannot be loaded: {reason_of(error)}")


SESSIONS: dict[Runtime, type[OnnxSession] | type[OpenVinoSession]] = {
    "onnx": OnnxSession,
    "openvino": OpenVinoSession,
}
