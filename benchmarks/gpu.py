"""Images a second on a GPU, by number type, layout and compilation: `python -m benchmarks.gpu`.

One process, one row after the other: training steps of recipes with their augmentation, and forward
passes of a network made ready for inference. Each figure is the median of three runs of many steps,
with its range.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from resnetlab.compute.execution import Execution
from resnetlab.inference.prepare import ready_for_inference
from resnetlab.models.resnet import create_model
from resnetlab.recipes.table import get_recipe
from resnetlab.training.plan import load_data, make_plan
from resnetlab.training.state import State
from resnetlab.training.step import augment, train_step

WORDS = ("fp32", "fp32,channels_last", "bf16", "bf16,channels_last", "fp16,channels_last")
COMPILED = "bf16,channels_last,compile"
AT_224 = {"image_size": 224, "batch_size": 64, "crop_mode": "zero"}
TRAINED: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("cifar10-quick", {}, (*WORDS, COMPILED)),
    ("cifar10-94", {}, ("fp32,channels_last", "bf16,channels_last", COMPILED)),
    ("cifar10-resnet50-textbook", AT_224, ("fp32,channels_last", "bf16,channels_last")),
)
USED = (("resnet20", 32, 256, WORDS), ("resnet50", 224, 20, (*WORDS, COMPILED)))


def rate(work: Callable[[int], None], images: int, steps: int) -> str:
    """Images a second of ``work(steps)``, which waits for its end: median and range of three."""
    work(3)
    found = []
    for _ in range(3):
        began = time.perf_counter()
        work(steps)
        found.append(images * steps / (time.perf_counter() - began))
    low, middle, high = sorted(found)
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def training(recipe: str, changes: dict[str, Any], words: str, steps: int) -> str:
    execution = Execution.parse(f"cuda,{words}")
    chosen = get_recipe(recipe, execution=str(execution), **changes)
    plan = replace(make_plan(chosen, *load_data(chosen)), early_steps=0)
    execution.set_up()
    state = State.create(plan)
    state.accelerate(execution)
    state.model.train()
    indices = torch.arange(chosen.batch_size)
    batch = plan.augmentation.load(plan.data, indices, epoch=0)

    def work(steps: int) -> None:
        sums = torch.zeros(3)
        for step in range(steps):
            inputs, targets = augment(plan, indices, *batch, epoch=0, step=step)
            sums = train_step(plan, state, state.model, inputs, targets)
        sums.tolist()

    return rate(work, chosen.batch_size, steps)


def inference(model: str, size: int, batch: int, words: str, steps: int) -> str:
    execution = Execution.parse(f"cuda,{words}")
    execution.set_up()
    network = ready_for_inference(create_model(model).eval(), execution)
    images = torch.randn(batch, 3, size, size)
    images = images.to("cuda", memory_format=execution.memory_format)

    def work(steps: int) -> None:
        with torch.inference_mode(), execution.autocast():
            for _ in range(steps):
                logits = network(images)
            logits[0].tolist()

    return rate(work, batch, steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| what | execution | images/s (range of 3) |\n|---|---|---|")
    for recipe, changes, all_words in TRAINED:
        what = " ".join(["training", recipe, *(f"{k} {v}" for k, v in changes.items())])
        for words in all_words:
            found = training(recipe, changes, words, steps)
            print(f"| {what} | {words} | {found} |", flush=True)
    for model, size, batch, all_words in USED:
        for words in all_words:
            found = inference(model, size, batch, words, steps)
            print(f"| {model} at {size}, batch {batch} | {words} | {found} |", flush=True)


if __name__ == "__main__":
    main()
