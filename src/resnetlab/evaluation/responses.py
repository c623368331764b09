"""How strongly each layer of a network responds, by depth (He et al. 2015, figure 7)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.data.dataset import Dataset
from resnetlab.data.images import normalize
from resnetlab.environment import torch_defaults
from resnetlab.inference.prepare import inference_batch_size
from resnetlab.models.resnet import ResNet


@dataclass(frozen=True, kw_only=True)
class Response:
    """The output of one layer of a block, before the nonlinearity, over all images and places."""

    name: str
    """of the layer, as in the state dict"""
    deviation: float
    """standard deviation"""
    ends: bool
    """whether it ends its block's branch: what is added to the shortcut"""


@torch_defaults()
def layer_responses(model: ResNet, dataset: Dataset, *, images: int = 500) -> list[Response]:
    """For each layer of each block, in order of depth, how far its responses spread.

    A layer is a convolution with its batch norm, as in the paper; in networks of 2016, where the
    norm comes first, the convolution alone.

    Args:
        model: In eval mode, on the CPU.
        dataset: Whose first ``images`` are looked at.
    """
    kind = nn.BatchNorm2d if model.architecture.activation == "post" else nn.Conv2d
    layers: list[tuple[nn.Module, bool]] = []
    for block in model.blocks():
        own = [layer for layer in block.children() if isinstance(layer, kind)]
        layers += [(layer, layer is own[-1]) for layer in own]
    sums = torch.zeros(len(layers), 3, dtype=torch.float64)  # n, sum, sum of squares

    def add(row: Tensor, _: nn.Module, __: Any, output: Tensor) -> None:
        values = output.double()
        row += torch.stack([row.new_tensor(values.numel()), values.sum(), values.square().sum()])

    hooks = [
        layer.register_forward_hook(partial(add, row))
        for (layer, _), row in zip(layers, sums, strict=True)
    ]
    try:
        indices = torch.arange(min(images, len(dataset)))
        with torch.inference_mode():
            for part in indices.split(inference_batch_size(dataset.preprocessing.size)):
                model(normalize(dataset.batch(part)[0], dataset.preprocessing))
    finally:
        for hook in hooks:
            hook.remove()
    n, total, squares = sums.T
    deviations = (squares / n - (total / n).square()).clamp(min=0).sqrt().tolist()
    names = {module: name for name, module in model.named_modules()}
    return [
        Response(name=names[layer], deviation=deviation, ends=ends)
        for (layer, ends), deviation in zip(layers, deviations, strict=True)
    ]


def first_filters(model: ResNet) -> Tensor:
    """The weights of the first convolution: (filters, channels, h, w)."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return first.weight.detach().cpu()
