"""A recipe killed at random moments against an undisturbed one, byte by byte.

`python -m benchmarks.killed cifar10-quick --kills 10 --threads 2`; further words are fields of the
recipe, as in `epochs=2`. The moments are drawn over the first 95 % of the training's steps; a run
tells its step every ten seconds, and is killed up to five seconds after that. Prints each kill, and
in the end whether last.pt, best.pt, metrics.jsonl and test.json are the same, but for times and
memory. The runs stay in --folder; with --stop-after N it ends after so many kills of its own, and
the same command goes on from there.
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


def kill_after(step: int, seconds: float, run: Run, child: int) -> None:
    """Kill the process so many seconds after it has told that it is past the step."""
    began = time.time()
    while True:
        told = run.progress  # of this process, not of the one before
        if told.get("time", 0) >= began and told["step"] >= step:
            break
        if os.waitpid(child, os.WNOHANG)[0]:
            sys.exit(f"{run.path} ended by itself before step {step}; see its log")
        time.sleep(0.1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


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
    parser.add_argument("--stop-after", type=int, default=sys.maxsize, metavar="KILLS")
    parser.add_argument("--folder", type=Path, default=Path("killed"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    changes: dict[str, Any] = {"checkpoint_minutes": 0.1}
    for word in options.changes:
        name, _, text = word.partition("=")
        changes[name] = json.loads(text) if text[:1].isdigit() else text
    options.folder.mkdir(parents=True, exist_ok=True)
    log, kills = options.folder / "log", options.folder / "kills"
    whole, broken = Run(options.folder / "whole"), Run(options.folder / "broken")
    if not whole.exists:
        os.waitpid(start(whole.path, options.recipe, changes, log), 0)
    if whole.result is None:
        sys.exit(f"{whole.path} was not trained undisturbed: remove {options.folder}")
    total = whole.metrics[-1]["step"]
    print(f"undisturbed: {total:,} steps, {whole.metrics[-1]['epoch']} epochs", flush=True)
    changes["execution"] = str(whole.recipe.execution)  # measured there, if it was
    draw = random.Random(options.seed)
    last = total * 95 // 100  # or the training might be over before the kill
    moments = sorted((draw.randrange(last), draw.uniform(0, 5)) for _ in range(options.kills))
    kills.touch()
    done = len(kills.read_text().splitlines())
    for number, (step, seconds) in enumerate(moments[done : done + options.stop_after], done + 1):
        kill_after(step, seconds, broken, start(broken.path, options.recipe, changes, log))
        saved = broken.last["step"] if broken.states.exist else 0
        line = f"kill {number}: {seconds:.1f} s after step {step:,}; saved: step {saved:,}"
        with kills.open("a") as file:
            print(line, file=file)
        print(line, flush=True)
    if len(kills.read_text().splitlines()) < options.kills:
        return
    if broken.result is None:
        os.waitpid(start(broken.path, options.recipe, changes, log), 0)
    print(f"killed {options.kills} times")
    one, other = digests(whole.path), digests(broken.path)
    for name, value in one.items():
        print(f"{name}: {'the same' if other[name] == value else 'DIFFERS'}")
    print(f"test accuracy {whole.result['top1']:.2f} %")


if __name__ == "__main__":
    main()
