"""The residual network (arXiv:1512.03385): every ``Architecture`` becomes a ``ResNet`` here.

State-dict keys and their order are torchvision's wherever torchvision has the network.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resnetlab.arguments import check_types
from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.fast import (
    SingleBlock,
    Transition,
    pooled_stage,
    whitening_filters,
    whitening_stem,
)
from resnetlab.models.preactivation import PreBasicBlock, PreBottleneck
from resnetlab.models.shortcuts import conv, make_shortcut


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


BLOCKS: dict[tuple[str, str], type[nn.Module]] = {
    ("basic", "post"): BasicBlock,
    ("bottleneck", "post"): Bottleneck,
    ("basic", "pre"): PreBasicBlock,
    ("bottleneck", "pre"): PreBottleneck,
    ("single", "post"): SingleBlock,
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
        self.stage_names = stage_names
        self._initialize(zero_init_residual)

    def _initialize(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            # On the meta device, normal_ imports torch's compiler: a second and a half for nothing.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            # The last weighted layer of each branch: a norm in nets of 2015, else a convolution.
            kind = nn.BatchNorm2d if self.architecture.activation == "post" else nn.Conv2d
            for block in self.blocks():
                last = [module for module in block.children() if isinstance(module, kind)][-1]
                nn.init.zeros_(last.weight)

    def blocks(self) -> list[nn.Module]:
        """All blocks in order of depth."""
        stages = [self.get_submodule(name).children() for name in self.stage_names]
        return [block for stage in stages for block in stage if not isinstance(block, Transition)]

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Fit the filters of a whitening stem to ``images``, normalised, (n, in_channels, h, w)."""
        self.get_parameter("conv1.weight").copy_(whitening_filters(images))

    def forward(self, input: Tensor) -> Tensor:
        self.check_input(input)
        for module in self:
            input = module(input)
        return input

    def forward_features(self, x: Tensor) -> Tensor:
        """The feature maps before the pooling.

        Args:
            x: Normalised images, (n, in_channels, h, w).

        Returns:
            (n, stage_outputs[-1], h / total_stride, w / total_stride), rounded up. Their mean over
            height and width is what ``fc`` reads. (A ``fast_resnet`` rounds down, after its stem
            has taken a pixel, and reads their maximum.)

        Raises:
            UserError: The images are too small or have another number of channels.
        """
        self.check_input(x)
        for name, module in self.named_children():
            if name in ("avgpool", "pool"):
                break
            x = module(x)
        return x

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The output of every stage, as detection and segmentation need them.

        Args:
            x: Normalised images, (n, in_channels, h, w).

        Returns:
            For stage i, (n, stage_outputs[i], h / s, w / s), rounded up, where s is the product of
            ``stem_stride`` and of ``strides`` up to this stage. (A ``fast_resnet`` rounds down,
            after its stem has taken a pixel.)

        Raises:
            UserError: The images are too small or have another number of channels.
        """
        self.check_input(x)
        stages = []
        for name, module in self.named_children():
            x = module(x)
            if name in self.stage_names:
                stages.append(x)
            if len(stages) == len(self.stage_names):
                break
        return stages

    def check_input(self, x: Tensor) -> None:
        """Raise UserError for images that this network cannot take."""
        if isinstance(x, torch.fx.Proxy):  # while torch.fx traces, there are no sizes
            return
        channels, smallest = self.architecture.in_channels, self.architecture.minimum_size
        if x.dim() != 4 or x.size(1) != channels:
            raise UserError(
                f"this network takes images of shape (n, {channels}, height, width), "
                f"not {list(x.shape)}."
            )
        if min(x.size(2), x.size(3)) < smallest:
            raise UserError(
                f"images of {x.size(2)} x {x.size(3)} pixels are too small: this network halves "
                f"them to nothing; give at least {smallest} x {smallest}, or take the stem 'cifar'."
            )


def _stem(architecture: Architecture) -> dict[str, nn.Module]:
    channels, width = architecture.in_channels, architecture.channels_after_stem
    if architecture.stem == "whitening":
        return whitening_stem(channels, width)
    layers: dict[str, nn.Module] = {}
    if architecture.stem in ("cifar", "cifar-pool"):
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
    block = BLOCKS[architecture.block, architecture.activation]
    depth, width = architecture.depths[index], architecture.widths[index]
    in_channels, out_channels = architecture.stage_inputs[index], architecture.stage_outputs[index]
    if architecture.transition == "pool":
        return pooled_stage(in_channels, width, depth, block)
    options: dict[str, Any] = {"shortcut": architecture.shortcut}
    if architecture.block == "bottleneck":
        options["stride_on"] = architecture.stride_on
        options["inner_width"] = architecture.inner_width(width)
        options["groups"] = architecture.groups
    first_options = {"stride": architecture.strides[index]}
    if architecture.activation == "pre":
        first_options["first"] = index == 0
    blocks = [block(in_channels, width, **options, **first_options)]
    blocks += [block(out_channels, width, **options) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


@check_types
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
