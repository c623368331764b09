"""The blocks of 2016 (arXiv:1603.05027): batch norm and ReLU come before each convolution."""

from __future__ import annotations

from torch import Tensor, nn

from resnetlab.models.shortcuts import conv, make_shortcut


class PreBasicBlock(nn.Module):
    """``BasicBlock`` in the order of 2016: batch norm and ReLU before each convolution.

    The net's first block, and one that projects, activates before the split (paper 2, appendix).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        shortcut: str = "B",
        first: bool = False,
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, in_channels, width, stride, norm=False)
        self.split_after_activation = first or isinstance(self.downsample, nn.Sequential)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(x))
        if self.split_after_activation:
            x = out
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        if self.downsample is not None:
            out += self.downsample(x)
        return out


class PreBottleneck(nn.Module):
    """``Bottleneck`` in the order of 2016; see ``PreBasicBlock``."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        shortcut: str = "B",
        stride_on: str = "1x1",
        inner_width: int | None = None,
        groups: int = 1,
        first: bool = False,
    ) -> None:
        super().__init__()
        inner, out_channels = inner_width or width, 4 * width
        stride1, stride2 = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, inner, 1, stride1)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = conv(inner, inner, 3, stride2, groups)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = conv(inner, out_channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride, norm=False)
        self.split_after_activation = first or isinstance(self.downsample, nn.Sequential)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(x))
        if self.split_after_activation:
            x = out
        out = self.conv1(out)
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.conv3(self.relu(self.bn3(out)))
        if self.downsample is not None:
            out += self.downsample(x)
        return out
