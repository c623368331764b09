"""Trains in child processes that are forked after the imports, so that each starts in no time.

An order is a line of JSON on stdin: {"run": folder, "changes": fields of the recipe}, and "kill at"
to be killed there, as ``_Deadly`` counts. A run that has begun is resumed. The answers are the
child's number and, after its end, its exit status.
"""

import io
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import torch

from resnetlab.errors import UserError
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


def work(order: dict) -> int:
    if "kill at" in order:
        _Deadly(order["kill at"]).install()
    run = Path(order["run"])
    try:
        if Run(run).exists:
            resume(run)
        else:
            train("smoke", out=run, **order["changes"])
    except UserError as error:
        print(f"resnetlab: {error}", file=sys.stderr)
        return 2
    return 0


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = work(json.loads(line))
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
