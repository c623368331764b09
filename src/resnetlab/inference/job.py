"""Any number of images into one file, part by part: resumed after a kill, shared by processes.

Beside FILE lies FILE.parts until all is done: job.json, which says what is asked for; the list of
images in parts of ``PART``; of each finished part its rows and a note. A process takes a part that
is neither finished nor locked by another, and gives its rows their name when they are whole. So
every image comes once, whatever is killed, and the same command may run several times at once, on
any machine that sees the folder: under torchrun, or started by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from resnetlab.compute.execution import Execution
from resnetlab.console import Report, print_to_stderr, progress, waiting
from resnetlab.data.find import walk_images
from resnetlab.errors import UserError
from resnetlab.files import atomic_write, locked, user_path, write_json
from resnetlab.inference.choice import BackendName
from resnetlab.inference.exported import Exported
from resnetlab.inference.network import load_network
from resnetlab.inference.predictor import Prediction, Predictor
from resnetlab.inference.table import Table, table_of
from resnetlab.models.architecture import Architecture
from resnetlab.weights.checkpoint import Checkpoint
from resnetlab.weights.digest import digest

FORMAT = 1
"""Of FILE.parts."""

PART = 1000
"""Images of a part: what a kill costs at most, of each process."""


Predict = Callable[[list[Path]], Iterable[Prediction]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What lies in a file of predictions."""

    path: Path
    images: int
    failed: int
    """images that could not be read; their rows say why"""
    complete: bool = True
    """False in a helper of torchrun, which ends before the file is joined"""


def predict_to_file(
    run: Checkpoint | Exported | str | Path,
    images: Iterable[str | Path],
    out: str | Path,
    *,
    topk: int = 5,
    min_confidence: float | None = None,
    batch_size: int | None = None,
    backend: BackendName | None = None,
    execution: Execution | str = "auto",
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: str | Path | Sequence[str] | None = None,
    report: Report = print_to_stderr,
) -> Outcome:
    """The likeliest classes of any number of images, in constant memory, into a file.

    Args:
        run: What ``Predictor`` takes, but a Backend.
        images: Files, and folders, of which all images at any depth count.
        out: .csv, .jsonl or .parquet, see ``inference.table``; the same call resumes what was
            killed, and several of them, under torchrun or by hand, share the work.
        topk: Classes an image.
        min_confidence: See ``Predictor``.
        batch_size: Images at once; ``inference_batch_size`` unless given.
        backend, execution: See ``Predictor``.
        model, model_overrides, mean, std, classes: What a foreign file does not tell; see
            ``load_network``.
        report: Is told what is resumed.

    Raises:
        UserError: ``out`` is there already, or begun with another network, other images or another
            ``topk``; no images; and what ``Predictor`` raises.
    """
    path = user_path(out)
    table = table_of(path)
    if topk < 1:
        raise UserError(f"`topk` must be at least 1, not {topk}.")
    helper = os.environ.get("RANK", "0") != "0"
    if path.exists():
        if helper:  # the others were quick
            return Outcome(path=path, images=0, failed=0, complete=False)
        raise UserError(f"`out` {path} is there already; remove it or name another file.")
    network = load_network(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    named = [os.path.abspath(user_path(image)) for image in images]
    asked = {"format": FORMAT, "images": named, "topk": topk, "network": _identity(network)}
    asked |= {"min_confidence": min_confidence}
    job = _Job(path, table, asked)
    if helper:
        job.wait_for_list()
    else:
        job.open(report)
    predictor = Predictor(
        network, backend=backend, execution=execution, min_confidence=min_confidence
    )
    job.work(lambda paths: predictor.predict(paths, topk=topk, batch_size=batch_size), helper)
    if helper:
        return Outcome(path=path, images=0, failed=0, complete=False)
    return job.join()


def _identity(network: Checkpoint | Exported) -> str:
    """A digest of the network, so that no file holds the answers of two."""
    if isinstance(network, Exported):
        return hashlib.sha256(network.path.read_bytes()).hexdigest()
    facts = {"weights": network.weights, "classes": list(network.classes)}
    facts |= {"preprocessing": network.preprocessing.to_dict(), "t": network.temperature}
    return digest(facts)


class _Job:
    """FILE.parts."""

    def __init__(self, path: Path, table: Table, asked: Mapping[str, Any]) -> None:
        self.path, self.table, self.asked = path, table, dict(asked)
        self.folder = path.with_name(f"{path.name}.parts")
        self._job_file = self.folder / "job.json"
        self.parts = 0
        self.images = 0

    def open(self, report: Report) -> None:
        """List the images or, if they are listed already, see that the job is the same."""
        self.folder.mkdir(parents=True, exist_ok=True)

        def busy() -> None:
            report(f"waiting for another process that lists the images for {self.path}")

        with locked(self.folder / "list.lock", busy):
            if not self._read():
                self._list_images()
            elif done := sum(self._finished(part) for part in range(self.parts)):
                report(
                    f"resuming {self.path}: {done * PART:,} of {self.images:,} images are done"
                    if done < self.parts
                    else f"{self.path}: all parts are done"
                )

    def wait_for_list(self) -> None:
        """Until the first process has listed the images."""
        while not self._read():
            if self.path.exists():
                return
            time.sleep(0.2)

    def _read(self) -> bool:
        """Whether the images are listed; UserError if the job is another."""
        try:
            known = json.loads(self._job_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        differ = [name for name, value in self.asked.items() if known.get(name) != value]
        if differ:
            raise UserError(
                f"{self.folder} was begun with another {' and '.join(differ)}; go on as it was "
                "begun, remove it, or name another `out`."
            )
        self.parts, self.images = known["parts"], known["count"]
        return True

    def _list_images(self) -> None:
        for remains in self.folder.iterdir():
            if remains.suffix != ".lock":
                remains.unlink()
        paths = walk_images(self.asked["images"])
        with waiting("listing images"):
            while part := list(islice(paths, PART)):
                lines = "".join(json.dumps(str(path)) + "\n" for path in part)  # any bytes in names
                self._file(self.parts, "list").write_text(lines, encoding="ascii")
                self.parts += 1
                self.images += len(part)
        if not self.images:
            shutil.rmtree(self.folder)
            raise UserError(f"there are no images in {', '.join(self.asked['images'])}.")
        write_json(self._job_file, self.asked | {"parts": self.parts, "count": self.images})

    def _file(self, part: int, kind: str) -> Path:
        return self.folder / f"{part:06}.{kind}"

    def _rows_file(self, part: int) -> Path:
        return self._file(part, self.path.suffix[1:])

    def _finished(self, part: int) -> bool:
        return self._file(part, "done").exists()

    def work(self, predict: Predict, helper: bool) -> None:
        """Take parts until all are finished; a helper goes when there is none left to take."""
        left = [part for part in range(self.parts) if not self._finished(part)]
        steps = self._steps(left, predict, helper)
        for _ in progress(steps, len(left), f"predicting, in parts of {PART:,} images"):
            pass

    def _steps(self, left: list[int], predict: Predict, helper: bool) -> Iterator[int]:
        while left:
            taken = 0
            for part in list(left):
                if self._gone() or self._finished(part):
                    left.remove(part)
                    yield part
                    continue
                with self._claimed(part) as mine:
                    if not mine:
                        continue
                    if not self._gone() and not self._finished(part):
                        self._predict(part, predict)
                    taken += 1
                left.remove(part)
                yield part
            if left and not taken:
                if helper:
                    return
                time.sleep(0.5)

    def _gone(self) -> bool:
        """Whether another process has joined the parts and cleared up."""
        return not self._job_file.exists()

    @contextmanager
    def _claimed(self, part: int) -> Iterator[bool]:
        """Whether the part is ours in the body; the system lets go of a killed process's lock."""
        lock = FileLock(self._file(part, "lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        except OSError:  # the folder is gone, or knows no locks: then work may be done twice
            yield not self._gone()
            return
        try:
            yield True
        finally:
            lock.release()

    def _predict(self, part: int, predict: Predict) -> None:
        lines = self._file(part, "list").read_text(encoding="ascii").splitlines()
        failed = 0

        def counted() -> Iterator[Prediction]:
            nonlocal failed
            for prediction in predict([Path(json.loads(line)) for line in lines]):
                failed += prediction.error is not None
                yield prediction

        with atomic_write(self._rows_file(part)) as temporary:
            self.table.write(counted(), temporary)
        write_json(self._file(part, "done"), {"images": len(lines), "failed": failed})

    def join(self) -> Outcome:
        """The parts as one file, and the folder cleared away; by one process alone."""
        failed = 0
        if not self._gone():
            with locked(self.folder / "list.lock", lambda: None):
                if not self._gone():
                    failed = self._join()
        shutil.rmtree(self.folder, ignore_errors=True)
        return Outcome(path=self.path, images=self.images, failed=failed)

    def _join(self) -> int:
        """How many images could not be read."""
        numbers = range(self.parts)
        notes = [json.loads(self._file(part, "done").read_text()) for part in numbers]
        with atomic_write(self.path) as temporary:
            self.table.join([self._rows_file(part) for part in numbers], temporary)
        self._job_file.unlink()
        return sum(note["failed"] for note in notes)
