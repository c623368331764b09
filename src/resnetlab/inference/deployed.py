"""A network as it is deployed: from pixels to probabilities in one graph, and its ONNX form."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from resnetlab.compute.execution import PLAIN
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.files import atomic_write, cache_home
from resnetlab.inference.prepare import ready_for_inference
from resnetlab.version import __version__
from resnetlab.weights.checkpoint import Checkpoint
from resnetlab.weights.digest import digest

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Input = Literal["uint8", "float"]
"""Pixels that a graph takes: uint8 from 0 to 255, or fp32 from 0 to 1; both (n, channels, size,
size), arranged but not normalised."""

OUTPUTS = ("probabilities", "logits", "class_maps")
"""Of a graph, by name: (n, classes) twice and, on request, (n, classes, h, w); all fp32."""

_KEPT = 8
"""Converted networks in the cache."""


class Deployed(nn.Module):
    """Pixels (n, channels, size, size) -> ``OUTPUTS``.

    Normalisation and temperature are inside, batch norms are folded into convolutions.
    """

    def __init__(self, checkpoint: Checkpoint, *, input: Input, class_maps: bool) -> None:
        super().__init__()
        self.network = ready_for_inference(checkpoint.build(), PLAIN)
        self.temperature = checkpoint.temperature
        self.class_maps = class_maps
        largest = 255 if input == "uint8" else 1
        mean, std = (
            torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
            for values in (checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
        )
        self.register_buffer("scale", (1 / (largest * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        normalised = images.float() * self.get_buffer("scale") + self.get_buffer("shift")
        features = self.network.forward_features(normalised)
        maximum = self.network.architecture.pooling == "max"
        pooled = features.amax((2, 3)) if maximum else features.mean((2, 3))
        logits = self.network.get_submodule("fc")(pooled)
        outputs = ((logits / self.temperature).softmax(1), logits)
        if not self.class_maps:
            return outputs
        weight = self.network.get_parameter("fc.weight")
        return (*outputs, nn.functional.conv2d(features, weight[:, :, None, None]))


@torch_defaults()
def export_program(
    checkpoint: Checkpoint, *, input: Input = "uint8", class_maps: bool = False
) -> ExportedProgram:
    """The deployed network as ``torch.export`` traces it, for any number of images."""
    from torch.export import Dim, export

    p = checkpoint.preprocessing
    example = torch.zeros(2, p.channels, p.size, p.size)
    example = example.to(torch.uint8 if input == "uint8" else torch.float32)
    deployed = Deployed(checkpoint, input=input, class_maps=class_maps).eval()
    with torch.no_grad():
        return export(deployed, (example,), dynamic_shapes=({0: Dim("n", min=1)},))


def to_onnx(program: ExportedProgram, card: Mapping[str, Any]) -> bytes:
    """An ONNX file, with the card as its metadata ``resnetlab``.

    Raises UserError where onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing("ONNX", error) from error
    outputs = OUTPUTS[: len(program.graph_signature.user_outputs)]
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # its remarks on its own future
            converted = torch.onnx.export(
                program,
                dynamo=True,
                external_data=False,
                input_names=["images"],
                output_names=list(outputs),
                verbose=False,
            )
    finally:
        logger.setLevel(before)
    assert converted is not None
    model = converted.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input):
        del part.metadata_props[:]  # the tracer's: lines of our source, of no use elsewhere
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"resnetlab": json.dumps(card)})
    model.producer_name, model.producer_version = "resnetlab", __version__
    onnx.checker.check_model(model)
    return model.SerializeToString()


def converted(checkpoint: Checkpoint) -> bytes:
    """The network as ONNX, out of the cache if it was converted before.

    A cache that cannot be written is no error.
    """
    parts = {
        "weights": checkpoint.weights,
        "architecture": checkpoint.architecture.to_dict(),
        "preprocessing": checkpoint.preprocessing.to_dict(),
        "versions": [torch.__version__, __version__],
    }
    path = cache_home() / "converted" / f"{digest(parts)[:16]}.onnx"
    with suppress(OSError):
        data = path.read_bytes()
        if hashlib.sha256(data[:-32]).digest() == data[-32:]:
            path.touch()
            return data[:-32]
    data = to_onnx(export_program(checkpoint), {})
    with suppress(UserError, OSError):
        with atomic_write(path) as temporary:
            temporary.write_bytes(data + hashlib.sha256(data).digest())
        files = sorted(path.parent.glob("*.onnx"), key=lambda file: file.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink(missing_ok=True)
    return data


def missing(what: str, error: ImportError) -> UserError:
    """The sentence for an extra that is not installed."""
    return UserError(f"{what} needs {error.name}: pip install 'resnetlab[export]'")
