"""A trained network for another task: other classes, other input channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from resnetlab.errors import UserError
from resnetlab.models.resnet import ResNet


def replace_head(model: ResNet, num_classes: int) -> ResNet:
    """Give ``model``, in place, a new classifier of ``num_classes``; returns it."""
    architecture = replace(model.architecture, num_classes=num_classes)
    old = model.get_submodule("fc")
    assert isinstance(old, nn.Linear)
    like = old.weight
    model.fc = nn.Linear(old.in_features, num_classes, device=like.device, dtype=like.dtype)
    model.architecture = architecture
    return model


def replace_input(
    model: ResNet, in_channels: int, mode: Literal["average", "repeat"] = "average"
) -> ResNet:
    """Give ``model``, in place, ``in_channels`` input channels; returns it.

    The first convolution's weights (out, old, k, k) become (out, in_channels, k, k). With "average"
    each new channel is the mean of the old ones, with "repeat" they are the old ones in turn (R, G,
    B, R, ...). Both are scaled by old / in_channels, which keeps the size of the sums: from three
    channels to one, "average" gives a grey image the outputs that it had as three equal channels.

    Raises:
        UserError: The network has a whitening stem, whose filters fit the old channels only.
    """
    if mode not in ("average", "repeat"):
        raise UserError(f"input_mode must be average or repeat, not {mode!r}.")
    if model.architecture.stem == "whitening":
        raise UserError(
            f"a network with a whitening stem keeps its {model.architecture.in_channels} input "
            "channels: its filters fit their patches only; train one for these images from scratch."
        )
    architecture = replace(model.architecture, in_channels=in_channels)
    first = model.conv1[0] if isinstance(model.conv1, nn.Sequential) else model.conv1
    assert isinstance(first, nn.Conv2d)
    old = first.weight.detach()
    channels = torch.arange(in_channels, device=old.device) % old.shape[1]
    new = old[:, channels]
    if mode == "average":
        new = old.mean(1, keepdim=True).expand_as(new)
    first.weight = nn.Parameter(new * (old.shape[1] / in_channels))
    first.in_channels = in_channels
    model.architecture = architecture
    return model


def adapt(
    model: ResNet,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    mode: Literal["average", "repeat"] = "average",
) -> ResNet:
    """``replace_head`` and ``replace_input`` where the numbers differ; returns ``model``."""
    if in_channels not in (None, model.architecture.in_channels):
        replace_input(model, in_channels, mode)
    if num_classes not in (None, model.architecture.num_classes):
        replace_head(model, num_classes)
    return model
