"""From decoded pixels to logits: our predictor, torchvision's network, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.training import FAST, other_network
from benchmarks.turns import Contestant
from resnetlab.benchmark import random_dataset, random_predictor
from resnetlab.compute.execution import Execution
from resnetlab.data.images import normalize
from resnetlab.inference.choice import BackendName
from resnetlab.models.architecture import get_architecture
from resnetlab.preprocessing import Preprocessing


def backends(model: str, batch_size: int, image_size: int, folder: Path) -> list[Contestant]:
    """Everything that computes this network here, fp32 in plain PyTorch first."""
    common = {"model": model, "batch_size": batch_size, "image_size": image_size}
    # torchvision has no network of the CIFAR family.
    source = "torchvision" if image_size == 224 else "resnetlab"
    exported = {**common, "file": str(folder / f"{model}-{batch_size}.onnx")}
    return [
        _contestant(f"{source}, eager, fp32", "eager", **common, source=source),
        _contestant("Predictor, fp32", "predictor", **common, execution="plain"),
        _contestant(f"Predictor, {FAST}", "predictor", **common, execution=FAST),
        _contestant("Predictor, backend auto", "predictor", **common, backend="auto"),
        _contestant("ONNX Runtime, fp32", "onnxruntime", **exported),
        _contestant("OpenVINO, fp32", "openvino", **exported, precision="f32"),
        _contestant("OpenVINO, bf16", "openvino", **exported, precision="bf16"),
    ]


def networks(model: str, batch_size: int, image_size: int) -> list[Contestant]:
    """Our network and those of torchvision and timm, computed alike."""
    common = {"model": model, "batch_size": batch_size, "image_size": image_size}
    sources = ("resnetlab", "torchvision", "timm")
    return [
        _contestant(source, "eager", **common, source=source, execution=FAST) for source in sources
    ]


def _contestant(name: str, function: str, **arguments: Any) -> Contestant:
    return Contestant(name=name, function=f"benchmarks.inference:{function}", arguments=arguments)


def _repeat(work: Callable[[Tensor], Any], images: Tensor) -> Iterator[int]:
    """Every contestant starts from the same uint8 pixels."""
    for _ in itertools.count():
        work(images)
        yield len(images)


def _pixels(batch_size: int, image_size: int) -> Tensor:
    return random_dataset(get_architecture("resnet18"), image_size, batch_size).images


def _normalized(images: Tensor, execution: Execution | None = None) -> Tensor:
    layout = execution.memory_format if execution else torch.contiguous_format
    how = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=images.size(2))
    return normalize(images, how, memory_format=layout)


def eager(
    *, model: str, batch_size: int, image_size: int, source: str, execution: str = "plain"
) -> Iterator[int]:
    """A network called as it is."""
    how = Execution.parse(execution)
    network = other_network(source, model).eval()
    network.to(memory_format=how.memory_format)  # type: ignore[call-overload]

    def work(images: Tensor) -> None:
        with torch.inference_mode(), how.autocast():
            network(_normalized(images, how)).float()

    yield from _repeat(work, _pixels(batch_size, image_size))


def predictor(
    *,
    model: str,
    batch_size: int,
    image_size: int,
    execution: str = "auto",
    backend: BackendName | None = None,
) -> Iterator[int]:
    """What `resnetlab predict` does with decoded images."""
    found = random_predictor(get_architecture(model), image_size, execution, backend)
    return _repeat(found.logits, _pixels(batch_size, image_size))


def export(model: str, batch_size: int, image_size: int, file: str) -> None:
    """Write the network as ONNX, unless another contestant has."""
    if Path(file).exists():
        return
    example = torch.zeros(batch_size, 3, image_size, image_size)
    network = other_network("resnetlab", model).eval()
    torch.onnx.export(network, (example,), file, dynamo=True, input_names=["image"], verbose=False)


def _take_threads() -> int:
    """Torch's, which keeps one for the pixels: two pools that wait actively hinder each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return threads


def onnxruntime(*, model: str, batch_size: int, image_size: int, file: str) -> Iterator[int]:
    """ONNX Runtime on the exported network."""
    import onnxruntime

    export(model, batch_size, image_size, file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _take_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def work(images: Tensor) -> None:
        session.run(None, {"image": _normalized(images).numpy()})

    yield from _repeat(work, _pixels(batch_size, image_size))


def openvino(
    *, model: str, batch_size: int, image_size: int, file: str, precision: str
) -> Iterator[int]:
    """OpenVINO on the exported network."""
    import openvino

    export(model, batch_size, image_size, file)
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": _take_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    network = openvino.Core().compile_model(file, "CPU", options)

    def work(images: Tensor) -> None:
        network([_normalized(images).numpy()])

    yield from _repeat(work, _pixels(batch_size, image_size))
