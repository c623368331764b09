"""A recipe killed at random moments against an undisturbed one, byte by byte.

`python -m benchmarks.killed cifar10-quick --kills 10 --threads 2`; further words are fields of the
recipe, as in `epochs=2`. Prints each kill, and in the end whether last.pt, best.pt, metrics.jsonl
and test.json are the same, but for times and memory. The runs stay in --folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from resnetlab.runs import Run
from resnetlab.training.job import resume, train
from resnetlab.weights.digest import digest

MEASURED = {"seconds", "images_per_second", "peak_memory_mb"}


def start(run: Path, recipe: str, changes: dict[str, Any], log: Path) -> int:
    """A process that begins the run or goes on with it; its number."""
    child = os.fork()
    if child:
        return child
    handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        resume(run) if Run(run).exists else train(recipe, out=run, **changes)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def wait(child: int, seconds: float) -> bool:
    """Whether it has ended by then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.1)
    return False


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in MEASURED}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def digests(run: Path) -> dict[str, str]:
    best = torch.load(run / "best.pt", weights_only=True)
    return {
        "last.pt": digest(comparable(Run(run).last)),
        "best.pt": digest(comparable({name: best[name] for name in ("model", "metrics")})),
        "metrics.jsonl": digest(comparable(Run(run).metrics)),
        "test.json": digest((run / "test.json").read_text()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.killed", description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("killed"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    changes: dict[str, Any] = {"checkpoint_minutes": 0.1}
    for word in options.changes:
        name, _, text = word.partition("=")
        changes[name] = json.loads(text) if text[:1].isdigit() else text
    options.folder.mkdir(parents=True)
    log, broken = options.folder / "log", options.folder / "broken"
    whole = options.folder / "whole"
    began = time.monotonic()
    os.waitpid(start(whole, options.recipe, changes, log), 0)
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    changes["execution"] = str(Run(whole).recipe.execution)  # measured there, if it was
    draw, kills = random.Random(options.seed), 0
    while kills < options.kills:
        child = start(broken, options.recipe, changes, log)
        if wait(child, draw.uniform(0.02, 2 / options.kills) * seconds):
            break
        told = Run(broken).progress
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        print(f"kill {kills}: about step {told.get('step')} of {told.get('total_steps')}")
        sys.stdout.flush()
    if Run(broken).result is None:
        os.waitpid(start(broken, options.recipe, changes, log), 0)
    print(f"killed {kills} times")
    one, other = digests(whole), digests(broken)
    for name, value in one.items():
        print(f"{name}: {'the same' if other[name] == value else 'DIFFERS'}")
    print(f"test accuracy {Run(whole).result['top1']:.2f} %")  # type: ignore[index]


if __name__ == "__main__":
    main()
