"""The measurements of networks, made in this process."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resnetlab.benchmark.machine import measure_limits, wait_for
from resnetlab.benchmark.records import FileRate, NetworkRate
from resnetlab.benchmark.samples import random_dataset, random_predictor
from resnetlab.benchmark.timing import rate_fields, repeat, time_once
from resnetlab.compute.cores import movable_threads, on_fewer_where_faster
from resnetlab.compute.distributed import World
from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import peak_memory_mb
from resnetlab.console import print_to_stderr
from resnetlab.data.dataset import Dataset
from resnetlab.data.find import find_images
from resnetlab.data.sampling import epoch_batches
from resnetlab.errors import UserError
from resnetlab.inference.predictor import Decoded
from resnetlab.inference.prepare import inference_batch_size
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.summary import default_image_size, summarize
from resnetlab.recipes.record import Recipe
from resnetlab.training.parallel import shared
from resnetlab.training.plan import Plan, make_plan
from resnetlab.training.probe import choose_execution
from resnetlab.training.state import State
from resnetlab.training.step import make_batch, train_step


def training_steps(
    recipe: Recipe, data: Dataset, *, state: State | None = None, world: World | None = None
) -> Iterator[int]:
    """The loop's own steps without end; yields this process's images after each.

    ``recipe.execution`` must be explicit. ``state`` may hold another network than the recipe's.
    Images have their full size, though some recipes begin with smaller ones.
    """
    plan = make_plan(replace(recipe, early_size=None), data)
    execution, world = plan.execution, world or World()
    execution.set_up()
    if state is None:
        state = State.create(plan)
    state.accelerate(execution)
    network = shared(plan, state.model, world)
    state.model.train()
    threads = movable_threads(execution, world.size)
    steps = _steps(plan, state, network, world)
    return on_fewer_where_faster(steps, threads, print_to_stderr)


def _steps(plan: Plan, state: State, network: nn.Module, world: World) -> Iterator[int]:
    recipe, data = plan.recipe, plan.data
    for epoch in itertools.count():
        batches = epoch_batches(
            len(data),
            recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            rank=world.rank,
            world_size=world.size,
        )
        for step, indices in enumerate(batches):
            batch = make_batch(plan, indices, epoch=epoch, step=step, share=world.share)
            state.sums += train_step(plan, state, network, *batch)
            wait_for(plan.execution)
            yield len(indices)


def fitting_execution(recipe: Recipe) -> Execution:
    """What ``train`` would choose for this recipe, were its data set as large as CIFAR-10."""
    data = _random_training_set(recipe)
    recipe = replace(recipe, epochs=recipe.epochs * 50_000 / len(data))
    return choose_execution(make_plan(recipe, data), report=print_to_stderr)


def measure_training(recipe: Recipe, *, repeats: int, seconds: float) -> NetworkRate:
    """A row of ``benchmark_training``, measured in this process."""
    execution = Execution.parse(recipe.execution)
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    data = _random_training_set(recipe)
    size = data.preprocessing.size
    steps = training_steps(recipe, data)
    times = repeat(partial(next, steps), repeats=repeats, seconds=seconds)
    return _network_rate(
        "training", recipe.model, architecture, size, execution, times, recipe.batch_size
    )


def _random_training_set(recipe: Recipe) -> Dataset:
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    size = recipe.image_size or default_image_size(architecture)
    return random_dataset(architecture, size, max(4 * recipe.batch_size, 1000))


def measure_inference(
    model: str,
    architecture: Architecture,
    *,
    batch_size: int,
    image_size: int,
    execution: Execution,
    repeats: int,
    seconds: float,
) -> NetworkRate:
    """A row of ``benchmark_inference``, measured in this process."""
    predictor = random_predictor(architecture, image_size, execution)
    images = random_dataset(architecture, image_size, batch_size).images
    times = repeat(partial(predictor.logits, images), repeats=repeats, seconds=seconds)
    return _network_rate("inference", model, architecture, image_size, execution, times, batch_size)


def measure_files(
    model: str,
    architecture: Architecture,
    *,
    image_size: int,
    execution: Execution,
    folder: str | Path,
    seconds: float,
) -> FileRate:
    """A row of ``benchmark_files``, measured in this process."""
    predictor = random_predictor(architecture, image_size, execution)
    batch_size = inference_batch_size(image_size)
    paths = list(itertools.islice(itertools.cycle(find_images([folder])), 4 * batch_size))
    batches = [_pixels(batch) for batch in predictor.read_batches(paths)]
    jobs: list[Callable[[], Any]] = [
        lambda: [None for _ in predictor.read_batches(paths)],
        lambda: [predictor.logits(images) for images in batches],
        lambda: list(predictor.predict(paths)),
    ]
    predictor.logits(batches[0])  # warms up, as reading has
    rounds: list[list[float]] = []
    while len(rounds) < 3 and (not rounds or sum(map(sum, rounds)) < seconds):
        rounds.append([time_once(job) for job in jobs])
    decoder, network, _ = (
        len(paths) / statistics.median(column) for column in zip(*rounds, strict=True)
    )
    return FileRate(
        model=model,
        image_size=image_size,
        execution=str(execution),
        files=Path(folder).resolve().name,
        decoder_images_per_second=decoder,
        network_images_per_second=network,
        **rate_fields([both / len(batches) for _, _, both in rounds], batch_size),
    )


def _pixels(batch: Sequence[Decoded]) -> Tensor:
    """uint8 (n, c, size, size); the UserError of a file that cannot be read is raised."""
    images = []
    for _, image in batch:
        if isinstance(image, UserError):
            raise image
        images.append(image)
    return torch.stack(images)


def _network_rate(
    job: Literal["training", "inference"],
    model: str,
    architecture: Architecture,
    image_size: int,
    execution: Execution,
    times: list[float],
    batch_size: int,
) -> NetworkRate:
    peak = peak_memory_mb(execution.device)  # before the limits, whose tensors are large
    layers = summarize(architecture, image_size)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    rates = rate_fields(times, batch_size)
    passes = 3 if job == "training" else 1
    product, convolution = measure_limits(execution)
    return NetworkRate(
        job=job,
        model=model,
        image_size=image_size,
        execution=str(execution),
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=multiply_adds,
        gflops=2e-9 * multiply_adds * passes * rates["images_per_second"],
        matrix_product_gflops=product,
        convolution_gflops=convolution,
        peak_memory_mb=peak,
        **rates,
    )
