"""Training steps: the plain loop against ours, other people's networks, what each means brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.datasets import CIFAR10

from benchmarks import plain_loop
from benchmarks.turns import Contestant
from resnetlab.benchmark import fitting_execution, random_dataset, training_steps
from resnetlab.compute import distributed, execution
from resnetlab.compute.execution import Execution
from resnetlab.compute.kernels.winograd import use_winograd
from resnetlab.models.architecture import get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.recipes.record import Recipe
from resnetlab.training.optimizer import create_optimizer, create_schedule
from resnetlab.training.plan import Plan, make_plan
from resnetlab.training.state import State

CIFAR_STEM = {"stem": "cifar", "num_classes": 10}
FAST = "bf16,channels_last"
PAPER_IMAGES = 64_000 * 128
"""That the paper's CIFAR networks are trained with."""
PAPER_EPOCHS = PAPER_IMAGES / 45_000
"""A training as long as the paper's, so that "auto" may find that compiling pays."""


def plain_against_ours(model: str, batch_size: int = 128) -> list[Contestant]:
    """The same network and batch: as tutorials train it, and as `resnetlab train` does."""
    overrides = CIFAR_STEM if model == "resnet18" else {}
    common = {"model": model, "batch_size": batch_size, "overrides": overrides}
    plain = {"model": model, "batch_size": batch_size}
    return [
        Contestant(name="plain loop", function="benchmarks.training:plain", arguments=plain),
        _ours("resnetlab, auto", **common, execution="auto"),
    ]


def crowded(model: str, batch_size: int = 128) -> list[Contestant]:
    """As `plain_against_ours`, and ours on one thread, which has nobody to wait for."""
    common = {"model": model, "batch_size": batch_size}
    one = f"{FAST},winograd,threads=1"
    return [*plain_against_ours(model), _ours("resnetlab, one thread", **common, execution=one)]


def networks(model: str, batch_size: int, image_size: int) -> list[Contestant]:
    """Our network and those of torchvision and timm in our loop."""
    common = {"model": model, "batch_size": batch_size, "image_size": image_size}
    return [
        _ours("resnetlab", **common, execution=FAST, source="resnetlab"),
        _ours("torchvision", **common, execution=FAST, source="torchvision"),
        _ours("timm", **common, execution=FAST, source="timm"),
    ]


def means(model: str = "resnet20", batch_size: int = 128) -> list[Contestant]:
    """Each thing that makes the step fast, taken away from or added to bf16, channels_last."""
    common = {"model": model, "batch_size": batch_size}
    return [
        _ours(FAST, **common, execution=FAST),
        _ours("fp32 instead of bf16", **common, execution="fp32,channels_last"),
        _ours("NCHW instead of channels_last", **common, execution="bf16,contiguous"),
        _ours("memory returned to the system", **common, execution=FAST, keep_memory=False),
        _ours("fused", **common, execution=f"{FAST},fused"),
        _ours("winograd", **common, execution=f"{FAST},winograd"),
        _ours("compiled", **common, execution=f"{FAST},compile"),
        _ours("2 processes, half the threads each", **common, execution=FAST, processes=2),
    ]


def convolutions(channels: int, size: int) -> list[Contestant]:
    """A 3x3 convolution with its gradients: PyTorch's, which is oneDNN's, and by Winograd."""
    common = {"channels": channels, "size": size}
    return [
        Contestant(
            name=name,
            function="benchmarks.training:convolution",
            arguments={**common, "winograd": name == "Winograd"},
        )
        for name in ("oneDNN", "Winograd")
    ]


def _ours(name: str, *, processes: int = 1, **arguments: Any) -> Contestant:
    return Contestant(
        name=name,
        function="benchmarks.training:ours",
        arguments=arguments,
        processes=processes,
    )


class RandomCIFAR10(CIFAR10):
    """torchvision's data set, as large as the real one, without its files."""

    def __init__(self, transform: Callable) -> None:
        random = np.random.default_rng(0)
        self.data = random.integers(256, size=(50_000, 32, 32, 3), dtype=np.uint8)
        self.targets = random.integers(10, size=50_000).tolist()
        self.transform, self.target_transform = transform, None


def plain(*, model: str, batch_size: int) -> Iterator[int]:
    """Steps of the plain loop.

    Its workers stop once four batches lie ready, so they do not disturb the others' turns for
    longer than that takes, and it starts its own turn with as many ready as it leaves at its end.
    """
    dataset = RandomCIFAR10(plain_loop.TRANSFORM)
    return (n for n, _ in plain_loop.train(model, dataset, batch_size))


def ours(
    *,
    model: str,
    batch_size: int,
    execution: str,
    overrides: dict[str, Any] | None = None,
    image_size: int = 32,
    source: str = "resnetlab",
    keep_memory: bool = True,
) -> Iterator[int]:
    """Steps of `resnetlab train`, with the network of `source`."""
    if not keep_memory:
        _return_memory()
    recipe = Recipe(
        model=model,
        model_overrides=overrides or {},
        batch_size=batch_size,
        execution=execution,
        epochs=PAPER_EPOCHS,
    )
    recipe = replace(recipe, execution=str(fitting_execution(recipe)))
    architecture = get_architecture(model, **recipe.model_overrides)
    data = random_dataset(architecture, image_size, 50_000 if image_size == 32 else 500)
    state = None
    if source != "resnetlab":
        state = foreign_state(other_network(source, model), make_plan(recipe, data))
    with distributed.start() as world:
        yield from training_steps(recipe, data, state=state, world=world)


def convolution(
    *, channels: int, size: int, winograd: bool, batch_size: int = 128
) -> Iterator[int]:
    """One layer of `channels` to as many, in bf16, channels_last: forward and both gradients."""
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    how = Execution.parse(FAST)
    how.set_up()
    how.place(layer)
    if winograd:
        use_winograd(layer)
    x = torch.randn(batch_size, channels, size, size, dtype=how.dtype)
    x = x.contiguous(memory_format=how.memory_format).requires_grad_()
    gradient = torch.randn_like(x)
    while True:
        with how.autocast():
            y = layer(x)
        torch.autograd.grad(y, (x, layer.weight), gradient)
        yield batch_size


def other_network(source: str, name: str) -> nn.Module:
    """torchvision's or timm's network of that name, or our own; it starts at random."""
    if source == "torchvision":
        import torchvision

        return torchvision.models.get_model(name)
    if source == "timm":
        import timm

        return timm.create_model(name)
    return ResNet(get_architecture(name))


def foreign_state(model: nn.Module, plan: Plan) -> State:
    """The state of a training whose network is not ours."""
    state = State.create(plan)
    plan.execution.place(model)
    optimizer = create_optimizer(model, plan.recipe)
    schedule = create_schedule(optimizer, plan.recipe, plan.steps_per_epoch)
    return replace(state, model=model, optimizer=optimizer, schedule=schedule)


def _return_memory() -> None:
    """Undo, for this process, what `Execution.set_up` tells the allocator."""
    execution.keep_memory = lambda: None
