"""All side-by-side measurements as one Markdown page: `make benchmark > benchmarks/results.md`.

`python -m benchmarks --quick` shows in a minute that everything runs, and its figures mean nothing.
`--only inference` runs the sections that have the word in their title.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import inference, loading, training
from benchmarks.profile_step import profile_step
from benchmarks.turns import Contestant, Effort, compete, rows
from resnetlab.benchmark import (
    benchmark_data,
    benchmark_files,
    benchmark_inference,
    benchmark_training,
    machine,
    table,
)
from resnetlab.recipes.table import get_recipe

Table = tuple[list[str], list[list[str]]]
COMPARED = ["", "images/s*", "range*", "ratio to the first*", "range*"]
PROFILED = ["part of a step", "ms*", "share of the step, or of a large convolution*"]


@dataclass(frozen=True)
class Section:
    title: str
    measure: Callable[[], Table]


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a smoke test of a minute")
    arguments.add_argument("--only", default="", help="a word in the title of a section")
    options = arguments.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        sections = (quick if options.quick else full)(Path(folder))
        chosen = [each for each in sections if options.only.lower() in each.title.lower()]
        if not chosen:
            arguments.error(f"--only {options.only}: no section has that in its title.")
        print("# Side by side\n")
        print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
        for section in chosen:
            print(f"{section.title} ...", file=sys.stderr)
            print(f"\n## {section.title}\n\n{markdown(*section.measure())}", flush=True)
    print(f"\nMeasured in {(time.perf_counter() - began) / 60:.1f} minutes.")


def full(folder: Path) -> Iterator[Section]:
    """About ten minutes on two quiet cores."""
    for model in ("resnet20", "resnet18"):
        contestants = training.plain_against_ours(model)
        title = f"Training {model} on CIFAR-10, batch 128: the plain loop and resnetlab"
        yield _compared(title, contestants, Effort(rounds=9, seconds=5))
    for neighbours, where in ((0, "alone"), (1, "beside one busy process")):
        yield _compared(
            f"Training resnet20 on CIFAR-10, batch 128, {where}",
            training.crowded("resnet20"),
            Effort(rounds=5, seconds=5),
            neighbours=neighbours,
        )
    yield _compared(
        "Training resnet20, batch 128: what each means brings",
        training.means(),
        Effort(rounds=3, seconds=3),
    )
    for channels, size in ((16, 32), (32, 16), (64, 8), (64, 32), (128, 16), (256, 8), (512, 4)):
        yield _compared(
            f"3x3 convolution and gradients, {channels} channels at {size} pixels, batch 128",
            training.convolutions(channels, size),
            Effort(rounds=3, seconds=0.5),
        )
    yield _compared(
        "Training resnet50 at 224 pixels, batch 16, in our loop: whose network",
        training.networks("resnet50", 16, 224),
        Effort(rounds=3, seconds=3),
    )
    yield _compared(
        "Inference of resnet50 at 224 pixels, batch 16: whose network",
        inference.networks("resnet50", 16, 224),
        Effort(rounds=3, seconds=1.5),
    )
    for what, batch_size in (("12 megapixels", 8), ("400 pixels", 64)):
        yield _compared(
            f"Photographs of {what}, loaded as crops of 224 pixels",
            loading.loaders(folder, what, batch_size),
            Effort(rounds=3, seconds=15),  # of which a DataLoader has four batches ready
        )
    yield _compared(
        "Photographs: what limits a step of resnet18 at 224 pixels, batch 32",
        loading.steps(folder, 32),
        Effort(rounds=3, seconds=10),
    )
    for model, batch_size, size in (
        *(("resnet50", 1, 224), ("resnet50", 16, 224)),
        *(("resnet20", 1, 32), ("resnet20", 256, 32)),
    ):
        yield _compared(
            f"Inference of {model} at {size} pixels, batch {batch_size}: whose runtime",
            inference.backends(model, batch_size, size, folder),
            Effort(rounds=3, seconds=1),
        )
    fastest = f"{training.FAST},winograd"
    for name, execution, changes in (
        ("cifar10-quick", training.FAST, {}),
        ("cifar10-quick", fastest, {}),
        ("cifar10-quick", fastest, {"model": "resnet18", "model_overrides": training.CIFAR_STEM}),
        ("cifar10-94", fastest, {}),
    ):
        recipe = get_recipe(name, execution=execution, **changes)
        title = f"Where a training step of {recipe.model} at batch {recipe.batch_size} goes"
        yield Section(
            f"{title} ({execution})",
            lambda recipe=recipe: (PROFILED, profile_step(recipe, steps=5)),
        )
    for model, overrides in (("resnet20", {}), ("resnet18", training.CIFAR_STEM)):
        yield Section(
            f"Training {model} on CIFAR-10 against the machine's limits",
            lambda model=model, overrides=overrides: table(
                benchmark_training([model], overrides=overrides, seconds=5)
            ),
        )
    yield Section(
        "Inference against the machine's limits",
        lambda: table(benchmark_inference(["resnet50"], [1, 16], seconds=3)),
    )
    yield Section(
        "Image files: decoder or network",
        lambda: table(benchmark_files(["resnet20", "resnet50"], seconds=5)),
    )
    yield Section("Data", lambda: table(benchmark_data("cifar10", seconds=1)))


def quick(folder: Path) -> Iterator[Section]:
    """One of each kind, as small as can be, and nothing compiled."""
    least = Effort(rounds=1, seconds=0.1)

    def interpreted(contestants: list[Contestant]) -> Iterator[Contestant]:
        for each in contestants:
            how = each.arguments.get("execution", "")
            if how == "auto":  # that might compile
                each = replace(each, arguments=each.arguments | {"execution": training.FAST})
            if "compile" not in how:
                yield each

    plain = list(interpreted(training.plain_against_ours("resnet20", 8)))
    yield _compared("Training: the plain loop and resnetlab", plain, least)
    means = list(interpreted(training.means(batch_size=8)))
    yield _compared("Training: what each means brings", means, least)
    yield _compared("Training: whose network", training.networks("resnet18", 2, 64), least)
    yield _compared(
        "Inference: whose runtime", inference.backends("resnet20", 1, 32, folder), least
    )
    recipe = get_recipe("cifar10-quick", batch_size=8, execution=training.FAST)
    yield Section("Where a step goes", lambda: (PROFILED, profile_step(recipe, steps=1)))
    files = Section("Image files: decoder or network", lambda: table(benchmark_files(seconds=0.1)))
    yield files


def _compared(
    title: str, contestants: list[Contestant], effort: Effort, *, neighbours: int = 0
) -> Section:
    def measure() -> tuple[list[str], list[list[str]]]:
        return COMPARED, rows(compete(contestants, effort, neighbours=neighbours))

    return Section(title, measure)


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A table; a heading with ``*`` at its end stands over numbers."""
    rules = ["---:" if heading.endswith("*") else "---" for heading in headings]
    lines = [[heading.rstrip("*") for heading in headings], rules, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
