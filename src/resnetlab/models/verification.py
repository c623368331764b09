"""Every network checked: its counts against the papers, its outputs against torchvision's.

For networks that torchvision lacks, ``reference_forward`` is a second implementation from the
papers, on plain tensors. It shares no code with ``resnet.py``, so that a mistake in either shows as
a difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from resnetlab.models.architecture import ARCHITECTURES, PUBLISHED, list_models
from resnetlab.models.resnet import ResNet
from resnetlab.models.summary import count_parameters, on_meta

TOLERANCE = 1e-5
"""Largest accepted difference of outputs, relative to the largest output (at least 1)."""

_DEPTHS = {
    18: [2, 2, 2, 2],
    34: [3, 4, 6, 3],
    50: [3, 4, 6, 3],
    101: [3, 4, 23, 3],
    152: [3, 8, 36, 3],
}


def reference_forward(name: str, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits (n, classes) of the network of this name, for images x (n, channels, h, w).

    Everything but the weights follows from the name. ResNeXt and wide networks are not covered:
    torchvision has them.
    """
    layers = int("".join(c if c.isdigit() else " " for c in name).split()[0])
    imagenet, deep = layers in _DEPTHS, name.endswith("d")
    fast = name.startswith("fast")
    plain, pre = name.startswith("plain"), name.startswith("pre")
    bottleneck = layers in (50, 101, 152, 164, 1001)
    small_n = (layers - 2) // (9 if bottleneck else 6)
    stride_place = 2 if bottleneck and imagenet and not name.endswith("_v1") else 1

    def convolution(x: Tensor, key: str, stride: int = 1) -> Tensor:
        weight = state[f"{key}.weight"]
        return F.conv2d(x, weight, None, stride, weight.size(-1) // 2)

    def norm(x: Tensor, key: str) -> Tensor:
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
        return x * state[f"{key}.weight"][:, None, None] + state[f"{key}.bias"][:, None, None]

    def shortcut(x: Tensor, key: str, stride: int, channels: int) -> Tensor:
        if f"{key}.downsample.1.weight" in state and deep:  # option D: pool, then project
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False) if stride > 1 else x
            return norm(convolution(x, f"{key}.downsample.1"), f"{key}.downsample.2")
        if f"{key}.downsample.0.weight" in state:
            x = convolution(x, f"{key}.downsample.0", stride)
            return x if pre else norm(x, f"{key}.downsample.1")
        x = x[:, :, ::stride, ::stride]
        zeros = x.new_zeros(x.size(0), channels, x.size(2), x.size(3))
        start = (channels - x.size(1)) // 2
        zeros[:, start : start + x.size(1)] = x
        return zeros

    def block(x: Tensor, key: str, stride: int, first: bool) -> Tensor:
        depth = 3 if bottleneck else 1 if layers == 8 else 2
        kept, out = x, x
        for i in range(1, depth + 1):
            if pre:
                out = norm(out, f"{key}.bn{i}").clamp(min=0)
                if i == 1 and (first or f"{key}.downsample.0.weight" in state):
                    kept = out
            out = convolution(out, f"{key}.conv{i}", stride if i == stride_place else 1)
            if not pre:
                out = norm(out, f"{key}.bn{i}")
                out = out.clamp(min=0) if i < depth else out
        if not plain:
            out = out + shortcut(kept, key, stride, out.size(1))
        return out if pre else out.clamp(min=0)

    if fast:
        x = F.conv2d(x, state["conv1.weight"]).clamp(min=0)
        for stage in ("layer1", "layer2", "layer3"):
            x = F.max_pool2d(convolution(x, f"{stage}.0.conv1"), 2)
            x = norm(x, f"{stage}.0.bn1").clamp(min=0)
            x = block(x, f"{stage}.1", 1, False)
        return x.amax((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    if deep:
        x = norm(convolution(x, "conv1.0", 2), "conv1.1").clamp(min=0)
        x = norm(convolution(x, "conv1.3"), "conv1.4").clamp(min=0)
        x = convolution(x, "conv1.6")
    else:
        x = convolution(x, "conv1", 2 if imagenet else 1)
    if not pre:
        x = norm(x, "bn1").clamp(min=0)
    if imagenet:
        x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(_DEPTHS.get(layers, [small_n] * 3), 1):
        for number in range(count):
            first = number == 0
            stride = 2 if stage > 1 and first else 1
            x = block(x, f"layer{stage}.{number}", stride, first and stage == 1)
    if pre:
        x = norm(x, "bn").clamp(min=0)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One row of ``resnetlab models --verify``: a network, checked."""

    name: str
    parameters: int
    paper_parameters: int | None
    """None where the papers' definition gives no exact count"""
    torchvision_parameters: int | None
    """None where torchvision has no such network"""
    reference: str
    """what the outputs are compared with: ``torchvision`` or ``second reading``"""
    output_difference: float
    """relative to the largest output, at least 1"""

    @property
    def holds(self) -> bool:
        counts = {self.parameters, self.paper_parameters, self.torchvision_parameters} - {None}
        return len(counts) == 1 and self.output_difference <= TOLERANCE


def verify_model(name: str) -> Proof:
    """Check one network of the table, with random weights, statistics and images."""
    record = ARCHITECTURES[name]
    in_torchvision = name in torchvision.models.list_models()
    peer = torchvision.models.get_model(name).eval() if in_torchvision else None
    source = peer if peer is not None else ResNet(record)
    randomize(source)
    ours = on_meta(record)
    ours.load_state_dict(source.state_dict(), assign=True)
    size = max(8 if record.stem_stride == 1 else 65, 2 * record.minimum_size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    # The second reading rounds in another order; in fp64 that hides no difference.
    exact = torch.float32 if peer is not None else torch.float64
    ours, images = ours.to(exact), images.to(exact)
    with torch.inference_mode():
        if peer is not None:
            expected = peer(images)
        else:
            expected = reference_forward(name, ours.state_dict(), images)
        difference = (expected - ours(images)).abs().max() / expected.abs().max().clamp(min=1)
    published = PUBLISHED.get(name)
    return Proof(
        name=name,
        parameters=count_parameters(ours),
        paper_parameters=published.parameters if published else None,
        torchvision_parameters=count_parameters(peer) if peer is not None else None,
        reference="torchvision" if peer is not None else "second reading",
        output_difference=difference.item(),
    )


def verify_models(pattern: str = "*") -> list[Proof]:
    """``verify_model`` for all names that match the pattern, in the order of the table."""
    return [verify_model(name) for name in list_models(pattern)]


def randomize(model: nn.Module, seed: int = 0) -> None:
    """Give batch norms, in place, random weights, biases and statistics, so that each matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2, generator=generator)
            elif value.is_floating_point() and value.dim() == 1:
                value.normal_(0.5, 0.2, generator=generator)
