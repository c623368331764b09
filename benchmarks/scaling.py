"""What several machines gain: `python -m benchmarks.scaling` measures, `--accuracy` trains.

Measured: a step of one process, and of two that share a batch of twice the size, on this machine,
in turn, a thread each; and how long two processes take to add their gradients. From that a model
of the cost says what 8 and 64 machines would do over slower and faster networks:

    compute    the step of one process, of which backward is `BACKWARD`
    exchange   2 (n - 1) / n x bytes / bandwidth + 2 (n - 1) x `LATENCY`, the usual
               ring (Patarasuk and Yuan, 2009)
    step       compute + what the exchange takes longer than the backward pass, which it overlaps
               from DDP's first bucket on (Li et al., arXiv:2006.15704), and at least the exchange
               of its last bucket, which waits for the last gradient

`--accuracy cifar10-quick` trains the recipe in two processes with each of the two levers that make
the exchange cheaper, gradients in bf16 and a batch in parts, and prints what they cost in accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from resnetlab.benchmark.samples import random_dataset
from resnetlab.compute.distributed import start
from resnetlab.models.architecture import get_architecture
from resnetlab.models.summary import on_meta
from resnetlab.recipes.record import Recipe

NETWORKS = {"resnet20": (32, 128), "resnet50": (224, 16), "resnet152": (224, 8)}
"""Name -> side of its images, and images of a process in a step."""
BACKWARD = 2 / 3
"""of a step: two products of matrices where forward has one"""
LATENCY = 50e-6
"""seconds of a message between two machines (Ethernet)"""
BUCKET = 25 * 2**20
"""bytes of DDP's buckets; its first one has 1 MB"""
GIGABIT = 1e9 / 8
"""bytes a second"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a step of one process takes, and what it has to tell the others."""

    compute: float
    """seconds"""
    gradients: int
    """bytes"""

    def exchange(self, machines: int, bandwidth: float, part: float = 1.0) -> float:
        """Seconds in which all machines have the sum of ``part`` of the gradients."""
        volume = 2 * (machines - 1) / machines * self.gradients * part / bandwidth
        return volume + 2 * (machines - 1) * LATENCY

    def step(self, machines: int, bandwidth: float, *, share: float = 1.0, parts: int = 1) -> float:
        """Seconds of ``parts`` passes and one exchange of ``share`` of the bytes."""
        last = min(1.0, BUCKET / self.gradients)
        tail = self.exchange(machines, bandwidth, share * last)
        whole = self.exchange(machines, bandwidth, share)
        return parts * self.compute + max(tail, whole - BACKWARD * self.compute)

    def efficiency(self, machines: int, bandwidth: float, **how: float) -> float:
        """%: of so many times the images of one machine."""
        parts = int(how.get("parts", 1))
        return 100 * parts * self.compute / self.step(machines, bandwidth, **how)  # type: ignore


def gradient_bytes(model: str) -> int:
    network = on_meta(get_architecture(model))
    return 4 * sum(weights.numel() for weights in network.parameters())


def work(model: str, seconds: float, exchange: str) -> None:
    """Under torchrun: print the seconds of a step, and those of adding its gradients."""
    from resnetlab.benchmark.measure import training_steps

    size, batch = NETWORKS[model]
    with start() as world:
        torch.set_num_threads(1)
        recipe = Recipe(
            model=model,
            image_size=size,
            batch_size=batch * world.size,
            execution="bf16,channels_last,threads=1",
            gradient_exchange=exchange,  # type: ignore[arg-type]
        )
        data = random_dataset(get_architecture(model), size, 4 * recipe.batch_size)
        steps = training_steps(recipe, data, world=world)
        next(steps)
        times = _timed(lambda: next(steps), seconds)
        gradients = torch.zeros(gradient_bytes(model) // 4)
        sums = _timed(lambda: dist.all_reduce(gradients), seconds / 4) if world.size > 1 else [0.0]
        if world.is_main:
            print(json.dumps([statistics.median(times), statistics.median(sums)]))


def _timed(call, seconds: float) -> list[float]:
    """Of at least three calls; as many on each rank."""
    times: list[float] = []
    more = torch.ones(())
    while more.item():
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
        more = torch.tensor(float(len(times) < 3 or sum(times) < seconds))
        if dist.is_initialized():
            dist.broadcast(more, src=0)
    return times


def under_torchrun(processes: int, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, command), "-m", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )


def measure(model: str, seconds: float, rounds: int) -> list[float]:
    """Seconds of a step of one process and of two, and of two's exchange: medians of turns."""
    turns = []
    for _ in range(rounds):
        found = []
        for processes in (1, 2):
            words = ("benchmarks.scaling", "--worker", model, "--seconds", seconds)
            found += json.loads(under_torchrun(processes, *words).stdout.splitlines()[-1])
        turns.append(found)
    one, _, two, exchange = (statistics.median(values) for values in zip(*turns, strict=True))
    return [one, two, exchange]


def table(model: str, measured: list[float]) -> str:
    one, two, exchange = measured
    size = gradient_bytes(model)
    cost = Cost(compute=one, gradients=size)
    # Of two processes on one machine: its memory is the network between them.
    local = size / exchange
    lines = [
        f"\n### {model}: {NETWORKS[model][1]} images of {NETWORKS[model][0]} pixels a machine\n",
        f"{size / 1e6:.1f} MB of gradients; a step of one process {1e3 * one:.0f} ms, of two "
        f"{1e3 * two:.0f} ms (model: {1e3 * cost.step(2, local):.0f} ms), which add their "
        f"gradients in {1e3 * exchange:.1f} ms: {100 * one / two:.0f} % of twice the images/s "
        f"(model: {cost.efficiency(2, local):.0f} %).\n",
        "| machines | network | efficiency, % | gradients in bf16, % | in 4 parts, % | both, % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for machines in (8, 64):
        for gigabits in (1, 10, 100):
            found = (
                cost.efficiency(machines, gigabits * GIGABIT, share=share, parts=parts)
                for parts, share in ((1, 1.0), (1, 0.5), (4, 1.0), (4, 0.5))
            )
            figures = " | ".join(f"{each:.0f}" for each in found)
            lines.append(f"| {machines} | {gigabits} Gbit/s | {figures} |")
    return "\n".join(lines)


LEVERS = {
    "fp32 gradients": (),
    "bf16 gradients": ("--gradient-exchange", "bf16"),
    "4 parts": ("--batch-size", 512, "--accumulate", 4),
    "4 parts, bf16 gradients": (
        *("--batch-size", 512, "--accumulate", 4),
        *("--gradient-exchange", "bf16"),
    ),
}
"""Name -> options of `train`. Parts save exchanges where the batch is so many times larger."""


def accuracy(recipe: str, words: list[str], seeds: int, levers: list[str]) -> None:
    """A line for each lever: the test accuracies of the seeds."""
    print("| two processes | test accuracy, % | runs |\n| --- | --- | --- |")
    for name in levers:
        options, found = LEVERS[name], []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "run"
                train = ("resnetlab", "train", recipe, "--seed", seed, "--out", out)
                under_torchrun(2, *train, *options, *words)
                found.append(json.loads((out / "test.json").read_text())["top1"])
        runs = ", ".join(f"{each:.2f}" for each in found)
        print(f"| {name} | {statistics.mean(found):.2f} | {runs} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accuracy", metavar="RECIPE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--levers", nargs="+", default=list(LEVERS), choices=list(LEVERS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options, words = parser.parse_known_args()
    if options.worker:
        work(options.worker, options.seconds, "fp32")
    elif options.accuracy:
        accuracy(options.accuracy, words, options.seeds, options.levers)
    else:
        for model in options.models:
            print(table(model, measure(model, options.seconds, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
