"""What processes that share a batch exchange: gradients, and perhaps batch norm's statistics."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from resnetlab.compute.distributed import World
from resnetlab.models.resnet import ResNet
from resnetlab.training.plan import Plan


def shared(plan: Plan, model: ResNet, world: World) -> nn.Module:
    """The network as the processes train it together: each step has the mean of their gradients."""
    if world.size == 1:
        return model
    some_frozen = plan.recipe.freezes_layers
    network = DistributedDataParallel(model, find_unused_parameters=some_frozen)
    if plan.recipe.gradient_exchange == "bf16":
        network.register_comm_hook(None, bf16_compress_hook)
    # After its first step DDP arranges the gradients anew, by the order in which they came, and
    # three processes or more then add them in another order. That step is done here, so that the
    # first one of a resumed training is like any other.
    size, channels = plan.data.preprocessing.size, model.architecture.in_channels
    images = torch.zeros(2, channels, size, size, device=plan.execution.device)
    network.eval()
    network(images.to(memory_format=plan.execution.memory_format)).sum().backward()
    network.zero_grad()
    return network.train()


class _Sum(torch.autograd.Function):
    """The sum over all processes; as each one's loss depends on it, so do the gradients add up."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Sum.forward(ctx, gradient)


class SyncBatchNorm(nn.BatchNorm2d):
    """In training, mean and variance are those of the images of all processes, in fp32.

    ``torch.nn.SyncBatchNorm`` is for GPUs alone; this one computes wherever its tensors are.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        x = input.float()
        n = x.numel() / x.size(1) * dist.get_world_size()
        mean = _Sum.apply(x.sum((0, 2, 3))) / n
        x = x - mean[:, None, None]
        variance = _Sum.apply(x.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)  # pyright: ignore
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)  # pyright: ignore
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def synchronize(model: nn.Module, world: World) -> None:
    """Let every batch norm of ``model``, in place, see the images of all processes."""
    if world.size == 1:
        return
    for name, norm in list(model.named_modules()):
        if type(norm) is not nn.BatchNorm2d:
            continue
        synced = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, device="meta")
        synced.weight, synced.bias = norm.weight, norm.bias  # the optimizer knows these very ones
        for buffer in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(synced, buffer, getattr(norm, buffer))
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, synced)
