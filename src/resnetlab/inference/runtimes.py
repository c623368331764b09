"""ONNX Runtime and OpenVINO: a file, or its bytes, made ready to compute."""

from __future__ import annotations

import functools
import json
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import default_threads
from resnetlab.errors import UserError, reason_of
from resnetlab.inference.deployed import missing

Runtime = Literal["onnx", "openvino"]

_FIXED, _OFTEN = 2, 8
"""Numbers of images at once that OpenVINO gets graphs for, and after how many calls of each."""


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
    """OpenVINO on the CPU, in fp32 or bf16 as the execution says.

    A graph for any number of images is some 5 % slower than one for a given number, so that the
    first ``_FIXED`` numbers that come again and again get graphs of their own.
    """

    def __init__(self, source: Path | bytes, execution: Execution) -> None:
        threads = execution.threads or default_threads()
        self._core, self._model = _openvino_model(source)
        self._options = {
            # Its own default is bf16 where the CPU has it.
            "INFERENCE_PRECISION_HINT": "bf16" if execution.precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,  # it knows no CPU quota
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = self._core.compile_model(self._model, "CPU", self._options)
        except RuntimeError as error:
            raise _unreadable(source, error) from error
        self.outputs = frozenset(name for output in compiled.outputs for name in output.names)
        self.name = f"OpenVINO ({execution.precision}, threads={threads})"
        self._any = compiled.create_infer_request()
        self._fixed: dict[int, Any] = {}
        self._calls: Counter[int] = Counter()
        self._lock = threading.Lock()

    def run(self, images: np.ndarray, output: str) -> np.ndarray:
        with self._lock:
            request = self._request(images.shape)
            request.infer({0: images}, share_inputs=True)
            return request.get_tensor(output).data.copy()

    def _request(self, shape: tuple[int, ...]) -> Any:
        n = shape[0]
        if n in self._fixed:
            return self._fixed[n]
        self._calls[n] += 1
        if self._calls[n] < _OFTEN or len(self._fixed) == _FIXED:
            return self._any
        model = self._model.clone()
        model.reshape({0: list(shape)})
        compiled = self._core.compile_model(model, "CPU", self._options)
        self._fixed[n] = compiled.create_infer_request()
        return self._fixed[n]


@functools.cache
def openvino_core() -> Any:
    """OpenVINO, one for the life of the process.

    With its first network on the CPU it gives signal handlers a stack of its own (sigaltstack), and
    when it is freed it gives back the one before. Of two that are freed in the order in which they
    were made, the second would leave the stack of the first, which is gone: the next Ctrl-C, or any
    signal that Python handles, would crash.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing("OpenVINO", error) from error
    return openvino.Core()


def _openvino_model(source: Path | bytes) -> tuple[Any, Any]:
    """OpenVINO itself, and what it read."""
    core = openvino_core()
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
