"""Which backend computes a network: the one that is asked for, or the fastest here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

import torch
from torch import Tensor

from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import default_threads
from resnetlab.compute.memory import memory_key, read_memory
from resnetlab.compute.turns import seconds_in_turn
from resnetlab.console import Report, print_to_stderr
from resnetlab.errors import UserError
from resnetlab.files import cache_home, write_json
from resnetlab.inference.backends import Backend, Delegating, TorchBackend
from resnetlab.inference.deployed import converted
from resnetlab.inference.exported import Exported, RuntimeBackend
from resnetlab.inference.prepare import inference_batch_size, inference_execution
from resnetlab.inference.runtimes import SESSIONS, Runtime
from resnetlab.preprocessing import Preprocessing
from resnetlab.weights.checkpoint import Checkpoint

BackendName = Literal["auto", "torch", "onnx", "openvino"]

_FORMAT = 2
"""Of what is remembered; raised when backends become faster, so that all is measured anew."""

_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


def open_backend(
    network: Checkpoint | Exported,
    backend: BackendName | None = None,
    execution: Execution | str = "auto",
    *,
    report: Report = print_to_stderr,
) -> Backend:
    """A network made ready to compute.

    Args:
        network: Weights, or a file that was exported.
        backend: "torch", "onnx" (ONNX Runtime), "openvino", or "auto": the fastest of them for
            this machine and network, at one image and at a batch; measured once and remembered.
            By default weights are computed by PyTorch, and a file by the runtime that it is for.
        execution: How PyTorch computes. Of the others, its precision and its threads count for
            OpenVINO, and its threads for ONNX Runtime, which computes in fp32.
        report: Is told what is being measured, and what was chosen.

    Raises:
        UserError: A backend that is unknown, not installed or does not read such a file, or an
            execution that is impossible.
    """
    if backend is not None and backend not in get_args(BackendName):
        raise UserError(f"`backend` must be {', '.join(get_args(BackendName))}, not {backend!r}.")
    how = inference_execution(execution)
    if backend == "auto":
        return _fastest(network, how, report)
    if isinstance(network, Exported):
        if backend == "torch":
            raise UserError(
                f"`backend` torch computes weights, and {network.path} is a file of another "
                "runtime; take onnx or openvino, or name the run."
            )
        return network.open(backend or network.runtime, how)
    if backend in (None, "torch"):
        return TorchBackend.load(network, how)
    return _of_weights(network, backend, how)


def _of_weights(checkpoint: Checkpoint, runtime: Runtime, execution: Execution) -> Backend:
    backend = RuntimeBackend(
        session=SESSIONS[runtime](converted(checkpoint), execution),
        classes=checkpoint.classes,
        preprocessing=checkpoint.preprocessing,
        temperature=checkpoint.temperature,
        threshold=checkpoint.threshold,
    )
    return _WithMaps(backend=backend, load=lambda: TorchBackend.load(checkpoint, execution))


@dataclass(frozen=True, kw_only=True)
class _WithMaps(Delegating):
    """Weights in a runtime; their maps, which are asked for seldom, come from PyTorch."""

    load: Callable[[], Backend]
    loaded: list[Backend] = field(default_factory=list)

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        if not self.loaded:
            self.loaded.append(self.load())
        return self.loaded[0].class_maps(images, labels)


@dataclass(frozen=True, kw_only=True)
class BySize(Delegating):
    """A backend for several images at once, and another for single ones."""

    single: Backend

    @property
    def name(self) -> str:
        return f"{self.backend.name}; single images: {self.single.name}"

    def logits(self, images: Tensor) -> Tensor:
        return (self.single if len(images) == 1 else self.backend).logits(images)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    name: BackendName
    execution: Execution

    def __str__(self) -> str:
        """Its name in the memory."""
        return self.name if self.name == "onnx" else f"{self.name}, {self.execution.precision}"


def _candidates(network: Checkpoint | Exported, how: Execution) -> list[_Candidate]:
    """What may compute it here, as far as it is installed."""
    names: list[BackendName] = ["torch"] if isinstance(network, Checkpoint) else []
    if not (isinstance(network, Exported) and network.runtime != "onnx"):
        names.append("onnx")
    names.append("openvino")
    found = [_Candidate(name=name, execution=how) for name in names if _installed(name)]
    if how.precision != "fp32" and _installed("openvino"):
        found.append(_Candidate(name="openvino", execution=replace(how, precision="fp32")))
    return found


def _installed(name: BackendName) -> str | None:
    """The version of what computes it; None if it is not installed."""
    if name == "torch":
        return torch.__version__
    try:
        return version(_PACKAGES[name])
    except PackageNotFoundError:
        return None


def _fastest(network: Checkpoint | Exported, how: Execution, report: Report) -> Backend:
    """The fastest backend at one image and at a batch, measured once and remembered."""
    candidates = _candidates(network, how)
    memory = cache_home() / "backends.json"
    known = read_memory(memory)
    key = _key(network, how)
    opened: dict[str, Backend] = {}

    def open_candidate(candidate: _Candidate) -> Backend:
        name = str(candidate)
        if name not in opened:
            opened[name] = open_backend(network, candidate.name, candidate.execution)
        return opened[name]

    names = {str(candidate): candidate for candidate in candidates}
    chosen = known.get(key, {})
    if not (set(chosen) == {"single", "several"} and {*chosen.values()} <= {*names}):
        report("measuring what computes this network fastest on this machine (once) ...")
        backends: dict[str, Backend] = {}
        for name, candidate in names.items():
            try:
                backends[name] = open_candidate(candidate)
            except UserError as error:  # a part of the extra is not installed
                report(f"backend {name} is left out: {error}")
        size = network.preprocessing.size
        chosen = {}
        for place, n in (("single", 1), ("several", inference_batch_size(size))):
            rates = _rates(backends, network.preprocessing, n)
            chosen[place] = max(rates, key=rates.__getitem__)
            words = ", ".join(f"{name} {rate:,.1f}" for name, rate in rates.items())
            report(f"images/s, {n} at once: {words}")
        known[key] = chosen
        with suppress(UserError):  # a cache that cannot be written is measured again
            write_json(memory, known)
    single, several = (open_candidate(names[chosen[place]]) for place in ("single", "several"))
    return several if single is several else BySize(backend=several, single=single)


def _rates(backends: dict[str, Backend], preprocessing: Preprocessing, n: int) -> dict[str, float]:
    """Images a second of each backend, in batches of n."""
    shape = (n, preprocessing.channels, preprocessing.size, preprocessing.size)
    images = torch.randint(256, shape, dtype=torch.uint8)
    works = {name: lambda b=backend: b.logits(images) for name, backend in backends.items()}
    times = seconds_in_turn(works, rounds=3)
    # Others' work on the machine only ever adds time.
    return {name: n / min(values) for name, values in times.items()}


def _key(network: Checkpoint | Exported, how: Execution) -> str:
    """What the answer depends on, as a short name."""
    versions = [_installed(name) for name in ("onnx", "openvino")]
    if isinstance(network, Checkpoint):
        work = [network.architecture.to_dict(), network.preprocessing.size]
    else:
        work = [network.runtime, network.path.stat().st_size, dict(network.card)]
    return memory_key(how.threads or default_threads(), _FORMAT, *versions, str(how), *work)
