"""Trains in child processes that are forked after the imports, so that each starts in no time.

An order is a line of JSON on stdin: {"run": folder, "changes": fields of the recipe} and perhaps
"kill at", where it is killed as ``_Deadly`` counts; "processes", how many train together; "rank",
"step" and "fault", what happens to one of them, "after" so many seconds; "evaluate", to judge its
network alone. A run that has begun is resumed. The answer is their exit statuses.
"""

import io
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from pathlib import Path

import torch
import torch._dynamo  # which the first optimizer would import, for a second, in each child
from torch.optim.optimizer import register_optimizer_step_pre_hook

from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.runs import Run
from resnetlab.training.job import resume, train


class _Deadly:
    """Kills this process at its n-th operation on a file, before, amid or after it."""

    def __init__(self, at: int) -> None:
        self.left = at

    def point(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, module, name) -> None:
        function = getattr(module, name)

        def call(*args, **kwargs):
            self.point()
            result = function(*args, **kwargs)
            self.point()
            return result

        setattr(module, name, call)

    def install(self) -> None:
        for module, name in ((os, "fsync"), (Path, "replace"), (tempfile, "mkstemp")):
            self.wrap(module, name)
        save, write_text = torch.save, Path.write_text

        def half(path: Path, whole: bytes) -> None:
            path.write_bytes(whole[: len(whole) // 2])
            self.point()

        def deadly_save(values, path):
            save(values, buffer := io.BytesIO())
            half(Path(path), buffer.getvalue())
            save(values, path)

        def deadly_write_text(path, text, **options):
            half(path, text.encode())
            write_text(path, text, **options)

        torch.save, Path.write_text = deadly_save, deadly_write_text


def _fault_at(step: int, fault: str, after: float = 0.0) -> None:
    """In this process: killed, or without memory, in the optimizer's n-th step or soon after."""
    done = 0

    def hook(*_):
        nonlocal done
        done += 1
        if done == step and fault == "memory":
            raise MemoryError
        if done == step and after:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        elif done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_pre_hook(hook)


def work(order: dict, rank: int) -> int:
    if order.get("rank") == rank:
        _fault_at(order["step"], order["fault"], order.get("after", 0.0))
    if "kill at" in order:
        _Deadly(order["kill at"]).install()
    run = Path(order["run"])
    try:
        if "evaluate" in order:
            result = evaluate(run, per_image=run / "images.csv")
            (run / f"{rank}.json").write_text(json.dumps(result.to_dict()))
        elif Run(run).exists:
            resume(run, **order.get("resume", {}))
        else:
            train("smoke", out=run, **order["changes"])
    except UserError as error:
        if not error.told_elsewhere:
            print(f"resnetlab, {error.where}: {error}", file=sys.stderr)
        return 2
    return 0


def _start(order: dict, rank: int, port: int) -> int:
    """The number of a child that works as one of the order's processes."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if (size := order.get("processes", 1)) > 1:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            os.environ.update({name: str(value) for name, value in place.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GROUP_RANK="0")
        code = work(order, rank)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        children = [_start(order, rank, port) for rank in range(order.get("processes", 1))]
        ends = [os.waitpid(child, 0)[1] for child in children]
        print(*map(os.waitstatus_to_exitcode, ends), flush=True)


if __name__ == "__main__":
    main()
