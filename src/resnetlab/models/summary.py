"""The size of a network: shapes, parameters, multiply-adds, counted without computing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resnetlab.arguments import check_types
from resnetlab.errors import UserError
from resnetlab.models.architecture import PUBLISHED, Architecture, get_architecture, list_models
from resnetlab.models.resnet import ResNet


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row of ``resnetlab show``: a part of the network."""

    name: str
    """as in the state dict"""
    kind: str
    """the layer, or the blocks of a stage"""
    output: tuple[int, ...]
    """(channels, height, width), or (features,) after the pooling"""
    parameters: int
    multiply_adds: int


def on_meta(architecture: Architecture) -> ResNet:
    """The network on torch's meta device, without memory for weights, to count and to trace."""
    with torch.device("meta"):
        return ResNet(architecture).eval()


def default_image_size(architecture: Architecture) -> int:
    """Height and width, in pixels, of the images that the papers train such a stem on."""
    return 224 if architecture.stem_stride == 4 else 32


def count_parameters(module: nn.Module) -> int:
    """Number of parameters; the running statistics of batch norm do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


@check_types
def summarize(architecture: Architecture, image_size: int | None = None) -> list[Layer]:
    """The network part by part, for one square image.

    Args:
        architecture: The network.
        image_size: Height and width in pixels; by default 224, or 32 for a CIFAR stem.

    Raises:
        UserError: The image is too small for the network.
    """
    size = default_image_size(architecture) if image_size is None else image_size
    model = on_meta(architecture)
    outputs: dict[str, Tensor] = {}
    for name, child in model.named_children():
        child.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out}))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, architecture.in_channels, size, size, device="meta"))
    counts = counter.get_flop_counts()
    return [
        Layer(
            name=name,
            kind=_kind(child),
            output=tuple(outputs[name].shape[1:]),
            parameters=count_parameters(child),
            # A multiply-add is two operations.
            multiply_adds=sum(counts.get(f"ResNet.{name}", {}).values()) // 2,
        )
        for name, child in model.named_children()
    ]


def _kind(module: nn.Module) -> str:
    if not isinstance(module, nn.Sequential):
        if isinstance(module, nn.Conv2d):
            size, stride = module.kernel_size[0], module.stride[0]
            return f"{size}x{size} convolution" + (f", stride {stride}" if stride > 1 else "")
        return type(module).__name__
    kinds = [type(block).__name__ for block in module]
    if len(set(kinds)) == 1:
        return f"{len(kinds)} x {kinds[0]}"
    return " + ".join(_kind(layer) for layer in module if isinstance(layer, nn.Conv2d))


def describe_models(pattern: str = "*") -> list[dict[str, Any]]:
    """The size of each network of the table, and what its paper reports.

    Args:
        pattern: A shell pattern that the names must match.

    Returns:
        A row for each network: ``name``, ``layers``, ``parameters``, ``multiply_adds`` at
        ``image_size`` pixels, and ``paper_error`` in % (on CIFAR-10's test set, or 10-crop on
        ImageNet's validation set; None where the papers report none).

    Raises:
        UserError: No name matches the pattern.
    """
    names = list_models(pattern)
    if not names:
        raise UserError(f"no model matches {pattern!r}; `resnetlab models` lists all.")
    rows = []
    for name in names:
        architecture = get_architecture(name)
        layers = summarize(architecture)
        published = PUBLISHED.get(name)
        rows.append(
            {
                "name": name,
                "layers": architecture.num_layers,
                "parameters": sum(layer.parameters for layer in layers),
                "multiply_adds": sum(layer.multiply_adds for layer in layers),
                "image_size": default_image_size(architecture),
                "paper_error": published.error if published else None,
            }
        )
    return rows
