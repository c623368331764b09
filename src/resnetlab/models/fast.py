"""What the ``fast_resnet`` networks have and the papers have not.

After airbench (Jordan 2024, arXiv:2404.00498): a stem of fixed 2x2 filters that whiten the training
images' patches, and stages that begin with a convolution and 2x2 max pooling, so that every
shortcut is an identity.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetlab.models.shortcuts import conv


class Transition(nn.Module):
    """A 3x3 and 2x2 max pooling: (n, in_channels, h, w) -> (n, width, h // 2, w // 2)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3)
        self.maxpool = nn.MaxPool2d(2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn1(self.maxpool(self.conv1(x))))


class SingleBlock(nn.Module):
    """One 3x3 and an identity: (n, width, h, w) -> the same shape."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        out += x
        return self.relu(out)


def pooled_stage(in_channels: int, width: int, depth: int, block: type[nn.Module]) -> nn.Sequential:
    """A ``Transition`` and ``depth`` blocks: (n, in_channels, h, w) -> (n, ..., h // 2, w // 2)."""
    blocks = [block(width, width) for _ in range(depth)]
    return nn.Sequential(Transition(in_channels, width), *blocks)


def whitening_stem(in_channels: int, width: int) -> dict[str, nn.Module]:
    """Layers by name, of fixed filters: (n, in_channels, h, w) -> (n, width, h - 1, w - 1)."""
    whitening = nn.Conv2d(in_channels, width, 2, bias=False)
    whitening.weight.requires_grad_(False)
    return {"conv1": whitening, "relu": nn.ReLU(inplace=True)}


def whitening_filters(images: Tensor) -> Tensor:
    """(n, c, h, w), normalised -> filters (8 c, c, 2, 2) that whiten the images' patches.

    They are the eigenvectors of the 2x2 patches' covariance, each divided by the patches' standard
    deviation along it, and their negatives.
    """
    patches = F.unfold(images.float(), 2).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(patches.mT @ patches / len(patches))
    filters = (directions / torch.sqrt(variances + 5e-4)).mT
    return torch.cat((filters, -filters)).view(-1, images.size(1), 2, 2)
