"""The one network: every record of ``architecture.py`` becomes a ``ResNet`` here.

State-dict keys and their order are torchvision's wherever torchvision has the network.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture, get_architecture


class ShortcutA(nn.Module):
    """Identity with stride and zero-padded channels (option A of the paper); no parameters.

    (n, in_channels, h, w) -> (n, out_channels, ceil(h / stride), ceil(w / stride)). The zeros are
    shared out before and after, where the paper leaves the place open and public weights need it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution that keeps the size but for its stride; no bias, as batch norm has one."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )


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
    """One 3x3 and a shortcut: (n, in_channels, h, w) -> (n, width, h / stride, w / stride)."""

    def __init__(
        self, in_channels: int, width: int, *, stride: int = 1, shortcut: str = "B"
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)


class BasicBlock(nn.Module):
    """Two 3x3 and a shortcut: (n, in_channels, h, w) -> (n, width, h / stride, w / stride)."""

    def __init__(
        self, in_channels: int, width: int, *, stride: int = 1, shortcut: str = "B"
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = make_shortcut(shortcut, in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut: (n, in_channels, h, w) -> (n, 4 width, h / stride, ...).

    ``inner_width``: channels of the 3x3, where they differ from ``width`` (ResNeXt, wide nets).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        shortcut: str = "B",
        stride_on: str = "3x3",
        inner_width: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        inner, out_channels = inner_width or width, 4 * width
        stride1, stride2 = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1 = conv(in_channels, inner, 1, stride1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv(inner, inner, 3, stride2, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv(inner, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)


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


BLOCKS: dict[tuple[str, str], type[nn.Module]] = {
    ("single", "post"): SingleBlock,
    ("basic", "post"): BasicBlock,
    ("bottleneck", "post"): Bottleneck,
    ("basic", "pre"): PreBasicBlock,
    ("bottleneck", "pre"): PreBottleneck,
}


class ResNet(nn.Sequential):
    """The network of an ``Architecture``: images (n, in_channels, h, w) -> logits (n, num_classes).

    A sequence: stem (``conv1``, ...), stages (``layer1``, ``layer2``, ...), head (``avgpool``,
    ``flatten``, ``fc``). Any height and width of at least ``architecture.minimum_size`` pixels;
    a smaller image raises UserError. Initialised after He et al. 2015 (arXiv:1502.01852), fan out.

    ``zero_init_residual`` starts each residual branch at zero (arXiv:1706.02677).
    """

    def __init__(self, architecture: Architecture, *, zero_init_residual: bool = False) -> None:
        layers = _stem(architecture)
        stage_names = [f"layer{i + 1}" for i in range(len(architecture.depths))]
        layers |= {name: _stage(architecture, i) for i, name in enumerate(stage_names)}
        if architecture.activation == "pre":
            layers["bn"] = nn.BatchNorm2d(architecture.stage_outputs[-1])
            layers["relu"] = nn.ReLU(inplace=True)
        if architecture.pooling == "max":
            layers["pool"] = nn.AdaptiveMaxPool2d(1)
        else:
            layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["fc"] = nn.Linear(architecture.stage_outputs[-1], architecture.num_classes)
        super().__init__(OrderedDict(layers))
        self.architecture = architecture
        self.minimum_size = architecture.minimum_size
        self.in_channels = architecture.in_channels
        self.stage_names = stage_names
        self._initialize(zero_init_residual)

    def _initialize(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            # The last weighted layer of each branch: a norm in nets of 2015, else a convolution.
            kind = nn.BatchNorm2d if self.architecture.activation == "post" else nn.Conv2d
            for block in self.blocks():
                last = [module for module in block.children() if isinstance(module, kind)][-1]
                nn.init.zeros_(last.weight)

    @torch.jit.unused
    def blocks(self) -> list[nn.Module]:
        """All blocks in order of depth."""
        stages = [self.get_submodule(name).children() for name in self.stage_names]
        return [block for stage in stages for block in stage if not isinstance(block, Transition)]

    @torch.jit.unused
    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Set a whitening stem to the patches of ``images``, normalised, (n, in_channels, h, w).

        Its filters are the eigenvectors of the 2x2 patches' covariance, each divided by the
        patches' deviation along it, and their negatives (airbench, arXiv:2404.00498).
        """
        patches = F.unfold(images.float(), 2).transpose(1, 2).flatten(0, 1)
        variances, directions = torch.linalg.eigh(patches.mT @ patches / len(patches))
        filters = (directions / torch.sqrt(variances + 5e-4)).mT
        weight = self.get_parameter("conv1.weight")
        weight.copy_(torch.cat((filters, -filters)).view_as(weight))

    def _check_input(self, x: Tensor) -> None:
        if x.dim() != 4 or x.size(1) != self.in_channels:
            raise UserError(
                f"this network takes images of shape (n, {self.in_channels}, height, width), "
                f"not {list(x.shape)}."
            )
        if min(x.size(2), x.size(3)) < self.minimum_size:
            raise UserError(
                f"images of {x.size(2)} x {x.size(3)} pixels are too small: this network halves "
                f"them to nothing; give at least {self.minimum_size} x {self.minimum_size}, or "
                "take the stem 'cifar'."
            )

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        for module in self:
            input = module(input)
        return input

    def forward_features(self, x: Tensor) -> Tensor:
        """Feature maps before the pooling: (n, stage_outputs[-1], h / total_stride, w / ...)."""
        self._check_input(x)
        for name, module in self.named_children():
            if name in ("avgpool", "pool", "flatten", "fc"):
                break
            x = module(x)
        return x

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The output of each stage: (n, stage_outputs[i], h / stride, w / stride)."""
        self._check_input(x)
        stages = []
        for name, module in self.named_children():
            x = module(x)
            if name in self.stage_names:
                stages.append(x)
        return stages


def _stem(architecture: Architecture) -> dict[str, nn.Module]:
    channels, width = architecture.in_channels, architecture.channels_after_stem
    layers: dict[str, nn.Module] = {}
    if architecture.stem == "whitening":
        whitening = nn.Conv2d(channels, width, 2, bias=False)
        whitening.weight.requires_grad_(False)
        return {"conv1": whitening, "relu": nn.ReLU(inplace=True)}
    if architecture.stem == "cifar":
        layers["conv1"] = conv(channels, width, 3)
    elif architecture.stem == "imagenet":
        layers["conv1"] = conv(channels, width, 7, stride=2)
    else:
        half, convolutions = width // 2, []
        for before, stride in ((channels, 2), (half, 1)):
            convolutions += [conv(before, half, 3, stride), nn.BatchNorm2d(half)]
            convolutions += [nn.ReLU(inplace=True)]
        layers["conv1"] = nn.Sequential(*convolutions, conv(half, width, 3))
    if architecture.activation == "post":
        layers |= {"bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True)}
    if architecture.stem != "cifar":
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return layers


def _stage(architecture: Architecture, index: int) -> nn.Sequential:
    width, out_channels = architecture.widths[index], architecture.stage_outputs[index]
    options: dict[str, Any] = {"shortcut": architecture.shortcut}
    if architecture.block == "bottleneck":
        options["stride_on"] = architecture.stride_on
        options["inner_width"] = architecture.inner_width(width)
        options["groups"] = architecture.groups
    block = BLOCKS[architecture.block, architecture.activation]
    blocks = []
    if architecture.transition == "pool":
        blocks.append(Transition(architecture.stage_inputs[index], width))
    for number in range(architecture.depths[index]):
        first = number == 0 and not blocks
        if architecture.activation == "pre":
            options["first"] = first and index == 0
        in_channels = architecture.stage_inputs[index] if first else out_channels
        stride = architecture.strides[index] if first else 1
        blocks.append(block(in_channels, width, stride=stride, **options))
    return nn.Sequential(*blocks)


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    zero_init_residual: bool = False,
    **overrides: Any,
) -> ResNet:
    """A network by its name, freshly initialised: ``create_model("resnet20", in_channels=1)``.

    ``overrides`` are fields of ``Architecture``, e.g. ``stem="cifar"`` or ``shortcut="B"``. Raises
    UserError, one sentence, for an unknown name (with the nearest) or an impossible record.
    """
    if num_classes is not None:
        overrides["num_classes"] = num_classes
    if in_channels is not None:
        overrides["in_channels"] = in_channels
    architecture = get_architecture(name, **overrides)
    return ResNet(architecture, zero_init_residual=zero_init_residual)
