"""The shortcuts of a residual block: what it adds to its branch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ShortcutA(nn.Module):
    """Identity with stride and zero-padded channels (option A of the paper); no parameters.

    (n, in_channels, h, w) -> (n, out_channels, ceil(h / stride), ceil(w / stride)). Half of the
    zeros come before the channels, half after: the paper leaves this open, and public weights
    need it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def make_shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int, norm: bool = True
) -> nn.Module | None:
    """The shortcut of one block (see ``Architecture.shortcut``); None for a plain block."""
    if kind == "none":
        return None
    same_shape = stride == 1 and in_channels == out_channels
    if same_shape and kind != "C":
        return nn.Identity()
    if kind == "A":
        return ShortcutA(in_channels, out_channels, stride)
    layers: list[nn.Module] = []
    if kind == "D":
        pooling = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        layers.append(nn.Identity() if stride == 1 else pooling)
        stride = 1
    layers.append(conv(in_channels, out_channels, 1, stride))
    if norm:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers)


def conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution padded to keep the size at stride 1; without bias, as batch norm has one."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )
