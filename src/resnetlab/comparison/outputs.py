"""The proof: the same weights in both networks, by position, and the outputs compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnetlab.comparison.findings import Findings
from resnetlab.comparison.settings import Pairs
from resnetlab.comparison.trace import first_tensor
from resnetlab.models.resnet import ResNet
from resnetlab.models.shortcuts import ShortcutA

TOLERANCE = 1e-4
"""Largest difference of two outputs, in units of the reference's largest output."""


@torch.no_grad()
def output_difference(
    model: nn.Module, ours: ResNet, pairs: Pairs, shape: tuple[int, int], found: Findings
) -> float | None:
    """Give both the same weights, by position, and compare outputs in eval and in train mode.

    ``shape``: (channels, pixels). Reports kind ``function`` where the outputs differ though the
    structures match.
    """
    channels, size = shape
    images = torch.randn(4, channels, size, size)
    modules = dict(ours.named_modules())
    layers = [(a, b) for a, b in pairs if a and b and b.kind in ("conv", "norm", "linear")]
    for mine, other in layers:
        if other.kind == "norm":
            norm = modules[other.place]
            norm.eps, norm.momentum = mine.settings["eps"], 1.0  # type: ignore[assignment]
            assert isinstance(norm, nn.BatchNorm2d)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.1)
    ours.train()(images)  # momentum 1: running statistics that fit the weights
    if any(
        a.tensors[0] is not None and a.tensors[0].numel() != b.tensors[0].numel()
        for a, b in layers
        if b.tensors[0] is not None
    ):
        return None  # a classifier for another size of map
    for mine, other in layers:
        for target, source in zip(mine.tensors, other.tensors, strict=False):
            if target is not None and source is not None:
                transposed = mine.kind != other.kind and source.dim() == 2
                target.copy_((source.t() if transposed else source).reshape(target.shape))
    worst = 0.0
    for training in (False, True):
        theirs = first_tensor(model.train(training)(images))
        assert theirs is not None
        reference = ours.train(training)(images)
        closest = _distance(theirs, reference)
        if closest > TOLERANCE and (
            pads := [m for m in ours.modules() if isinstance(m, ShortcutA)]
        ):
            for front in (0, 1):  # zeros all behind, all in front: the paper leaves it open
                for pad in pads:
                    total = pad.before + pad.after
                    pad.before, pad.after = total * front, total * (1 - front)
                again = _distance(theirs, ours(images))
                if again <= TOLERANCE:
                    closest = again
                    found.note(
                        f"Option A appends its zeros {'before' if front else 'behind'} the "
                        "channels, the reference on both sides; the paper leaves it open."
                    )
                    break
        worst = max(worst, closest)
    if worst > TOLERANCE:
        found.add(
            "function",
            f"the same layers in the same order, yet with the same weights the outputs differ by "
            f"{worst:.2g} of their scale.",
            "look for what stands between the layers: reshapes, permutations, the order of a sum.",
            "forward",
        )
    return worst


def _distance(theirs: Tensor, ours: Tensor) -> float:
    if theirs.numel() != ours.numel():
        return float("inf")
    gap = (theirs.reshape(ours.shape).float() - ours).abs().max() / ours.abs().max()
    return float(gap)
