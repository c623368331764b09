"""Where the time of a training step goes: `python -m benchmarks.profile_step [RECIPE]`."""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import replace

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from resnetlab.benchmark import fitting_execution, measure_limits, random_dataset, training_steps
from resnetlab.compute.execution import Execution
from resnetlab.models.architecture import get_architecture
from resnetlab.models.summary import default_image_size, summarize
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES

PARTS = {
    "convolution, backward": ("convolution_backward", "_ConvolutionBackward"),
    "convolution, forward": ("convolution", "conv2d", "_Convolution"),
    "pooling": ("max_pool", "_MaxPool"),
    "normalisation (fused: with ReLU and addition)": ("batch_norm", "_NormReLU"),
    "ReLU": ("relu", "clamp_min", "threshold_backward"),
    "additions, sums": ("aten::add", "aten::add_", "aten::sum"),
    "optimizer": ("Optimizer.step",),
    "copies, casts, zeros": ("copy_", "_to_copy", "aten::zero_", "aten::fill_"),
}
"""Part of a step -> what the names of its operations contain; the first match counts. Whatever runs
within the optimizer's step is the optimizer's."""


def profile_step(recipe: Recipe, steps: int) -> list[list[str]]:
    """Rows: part, ms a step, share of the step; then the limits. Not compiled: parts show."""
    execution = fitting_execution(recipe)
    if execution.mode == "compile":
        execution = replace(execution, mode="eager")
    recipe = replace(recipe, execution=str(execution))
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    size = recipe.image_size or default_image_size(architecture)
    data = random_dataset(architecture, size, max(4 * recipe.batch_size, 1000))
    endless = training_steps(recipe, data)
    for _ in itertools.islice(endless, 3):
        pass
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        images = sum(itertools.islice(endless, steps))
    whole = 1e3 * (time.perf_counter() - began) / steps
    parts = dict.fromkeys(PARTS, 0.0)
    for event in found.events() or ():
        if part := _part(event):
            parts[part] += event.self_cpu_time_total / 1e3 / steps
    rest = {"the rest, Python and profiler among it": whole - sum(parts.values())}
    lines = [
        [part, f"{ms:.1f}", f"{100 * ms / whole:.0f} %"]
        for part, ms in sorted((parts | rest).items(), key=lambda item: -item[1])
    ]
    multiply_adds = sum(layer.multiply_adds for layer in summarize(architecture, size))
    operations = 2 * multiply_adds * images / steps
    return [
        *lines,
        ["whole step", f"{whole:.1f}", ""],
        *_against_limits(execution, parts, operations),
    ]


def _part(event: FunctionEvent) -> str | None:
    ancestor: FunctionEvent | None = event
    while ancestor:
        if "Optimizer.step" in ancestor.key:
            return "optimizer"
        ancestor = ancestor.cpu_parent
    return next((p for p, names in PARTS.items() if any(x in event.key for x in names)), None)


def _against_limits(
    execution: Execution, parts: dict[str, float], operations: float
) -> list[list[str]]:
    """GFLOP/s of the step's convolutions and their share of what a large one reaches."""
    product, convolution = measure_limits(execution)
    reached = {
        "forward": operations / parts["convolution, forward"] / 1e6,
        "backward": 2 * operations / parts["convolution, backward"] / 1e6,
        "large, forward": convolution,
    }
    return [
        *(
            [f"GFLOP/s of convolution, {name}", f"{rate:.0f}", f"{100 * rate / convolution:.0f} %"]
            for name, rate in reached.items()
        ),
        ["GFLOP/s of a large matrix product", f"{product:.0f}", ""],
    ]


if __name__ == "__main__":
    name = "python -m benchmarks.profile_step"
    arguments = argparse.ArgumentParser(prog=name, description=__doc__)
    arguments.add_argument("recipe", nargs="?", default="cifar10-quick", choices=list(RECIPES))
    for row in profile_step(RECIPES[arguments.parse_args().recipe], steps=5):
        print(*row, sep="\t")
