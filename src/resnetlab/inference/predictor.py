"""What a trained network sees in image files: decoded in threads ahead of it, in batches."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import available_cores
from resnetlab.data.images import ImageSource, read_image
from resnetlab.errors import UserError
from resnetlab.files import reading
from resnetlab.inference.prepare import (
    compute_logits,
    inference_batch_size,
    inference_execution,
    ready_for_inference,
)
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)
"""What is looked for in folders; a file that is named is tried whatever its suffix."""

Decoded = tuple[str, Tensor | UserError]
"""An image's name, and its pixels or why it could not be read."""


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, or why it could not be read."""

    path: str
    """as given; "image 3" for the third one that came as bytes or from Pillow"""
    top: tuple[tuple[str, float], ...] = ()
    """(class, probability in %), likeliest first; empty if the image could not be read"""
    error: str | None = None
    """one sentence that names the image, or None"""


class Predictor:
    """A trained network ready for images of any size and mode.

    ``checkpoint`` is a Checkpoint, which is left as it is, or the path of a run folder or of a
    file of weights. ``execution`` is how to compute: "auto", the default, takes bf16 where the CPU
    has it, which changes probabilities a little. ``execution`` and ``model`` are then what was
    chosen, and the network as ``ready_for_inference`` makes it. UserError, one sentence, if there
    is no network or no such execution.
    """

    def __init__(
        self, checkpoint: Checkpoint | str | Path, *, execution: Execution | str = "auto"
    ) -> None:
        self.execution = inference_execution(execution)
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_checkpoint(checkpoint)
        self.checkpoint = checkpoint
        self.model = ready_for_inference(checkpoint.build(), self.execution)

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, c, size, size) -> fp32 (n, classes) on the CPU."""
        preprocessing = self.checkpoint.preprocessing
        return compute_logits(self.model, images, preprocessing, execution=self.execution).cpu()

    def read(self, image: ImageSource) -> Tensor:
        """A path, encoded bytes or Pillow image as uint8 (c, size, size); UserError names it."""
        return read_image(image, self.checkpoint.preprocessing)

    def __call__(self, image: ImageSource, *, topk: int = 5) -> Prediction:
        """The prediction for one image; UserError if it cannot be read."""
        (prediction,) = self.predict([image], topk=topk)
        if prediction.error:
            raise UserError(prediction.error)
        return prediction

    def predict_files(
        self, paths: Iterable[str | Path], *, topk: int = 5, batch_size: int | None = None
    ) -> Iterator[Prediction]:
        """Predictions for files and for all images below folders; see ``find_images``."""
        return self.predict(find_images(paths), topk=topk, batch_size=batch_size)

    def predict(
        self, images: Iterable[ImageSource], *, topk: int = 5, batch_size: int | None = None
    ) -> Iterator[Prediction]:
        """One prediction for each image, in their order, as soon as its batch is done.

        An image that cannot be read gives a Prediction with ``error``. ``topk`` may exceed the
        number of classes; ``batch_size`` is that of ``inference_batch_size`` unless given.
        UserError if one of them is less than 1.
        """
        for name, value in (("topk", topk), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise UserError(f"`{name}` must be at least 1, not {value}.")
        return self._predict(images, topk, batch_size)

    def _predict(
        self, images: Iterable[ImageSource], topk: int, batch_size: int | None
    ) -> Iterator[Prediction]:
        for batch in self.read_batches(images, batch_size):
            yield from self._predict_batch(batch, topk)

    def read_batches(
        self, images: Iterable[ImageSource], batch_size: int | None = None
    ) -> Iterator[list[Decoded]]:
        """Names and pixels, uint8 (c, size, size), in order and in batches, decoded in threads.

        While the caller works on a batch, the next is being decoded, and no more than that.
        """
        batch_size = batch_size or inference_batch_size(self.checkpoint.preprocessing.size)
        threads = available_cores()
        # Handing over a small image on its own costs twice its decoding.
        together = max(1, min(8, batch_size // (2 * threads)))
        numbered = enumerate(images, 1)
        ahead: deque[list[Future[list[Decoded]]]] = deque()
        pool = ThreadPoolExecutor(threads)
        try:
            while True:
                while len(ahead) < 2 and (batch := list(islice(numbered, batch_size))):
                    parts = (batch[i : i + together] for i in range(0, len(batch), together))
                    ahead.append([pool.submit(self._try_read, part) for part in parts])
                if not ahead:
                    return
                yield [image for part in ahead.popleft() for image in part.result()]
        finally:
            pool.shutdown(cancel_futures=True)

    def _try_read(self, numbered: Sequence[tuple[int, ImageSource]]) -> list[Decoded]:
        decoded: list[Decoded] = []
        for number, image in numbered:
            name = str(image) if isinstance(image, str | Path) else f"image {number}"
            try:
                decoded.append((name, self.read(image)))
            except UserError as error:
                decoded.append((name, error))
        return decoded

    def _predict_batch(self, batch: Sequence[Decoded], topk: int) -> Iterator[Prediction]:
        pixels = [image for _, image in batch if isinstance(image, Tensor)]
        top: Iterator[tuple[tuple[str, float], ...]] = iter(())
        if pixels:
            top = iter(self.name_top(self.logits(torch.stack(pixels)), topk))
        for name, image in batch:
            if isinstance(image, Tensor):
                yield Prediction(name, next(top))
            else:
                yield Prediction(name, error=str(image))

    def name_top(self, logits: Tensor, topk: int = 5) -> list[tuple[tuple[str, float], ...]]:
        """For each row of logits (n, classes) its likeliest classes with probabilities in %."""
        # float64, so that percentages of sure networks do not all round to 100.
        percent = 100 * logits.double().softmax(1)
        best = percent.topk(min(topk, percent.size(1)))
        classes = self.checkpoint.classes
        return [
            tuple((classes[i], p) for i, p in zip(indices, row, strict=True))
            for indices, row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are, folders replaced by the images at any depth in them, sorted.

    In folders only names with one of IMAGE_SUFFIXES count, and hidden ones do not. A path that
    does not exist is kept, for its reader to complain of. UserError for a folder without images.
    """
    found = []
    for path in map(Path, paths):
        with reading(path):
            is_folder = path.is_dir()
        if not is_folder:
            found.append(path)
            continue
        inside = [file for file in sorted(path.rglob("*")) if _is_image(file.relative_to(path))]
        inside = [file for file in inside if not file.is_dir()]
        if not inside:
            raise UserError(
                f"{path} holds no images: looked below it for {', '.join(sorted(IMAGE_SUFFIXES))}; "
                "name files of other kinds one by one."
            )
        found += inside
    return found


def _is_image(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def predict(
    run: str | Path | Checkpoint,
    images: str | Path | Sequence[str | Path],
    *,
    topk: int = 5,
    batch_size: int | None = None,
    execution: Execution | str = "auto",
) -> list[Prediction]:
    """The likeliest classes of image files and of all images in folders, in order.

    An unreadable image gives an entry with ``error``, and the others are still predicted. For
    ``batch_size`` and ``execution`` see ``Predictor``. Raises UserError for a run without a
    network, a folder without images, a topk below 1, or a wrong word of the execution.
    """
    paths = [images] if isinstance(images, str | Path) else images
    predictor = Predictor(run, execution=execution)
    return list(predictor.predict_files(paths, topk=topk, batch_size=batch_size))


PredictionFormat = Literal["table", "json", "csv"]


def print_predictions(
    predictions: Sequence[Prediction],
    format: PredictionFormat = "table",
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> None:
    """Print predictions to ``out`` (stdout) and a line for each unreadable image to ``err``."""
    if format == "table":
        _print_table(predictions, out)
    else:
        print({"json": to_json, "csv": to_csv}[format](predictions), end="", file=out)
    for prediction in predictions:
        if prediction.error:
            print(_encodable(prediction.error), file=err or sys.stderr)


def to_json(predictions: Sequence[Prediction]) -> str:
    """A list of {image, predictions: [{class, probability}], error}; probabilities in %."""
    values = [
        {
            "image": prediction.path,
            "predictions": [
                {"class": name, "probability": round(p, 4)} for name, p in prediction.top
            ],
            "error": prediction.error,
        }
        for prediction in predictions
    ]
    return json.dumps(values, indent=2) + "\n"


def to_csv(predictions: Sequence[Prediction]) -> str:
    """Tidy rows for pandas: image, rank (from 1), class, probability in %.

    Unreadable images have no row, so that every column keeps its type.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "probability"])
    for prediction in predictions:
        for rank, (name, p) in enumerate(prediction.top, 1):
            writer.writerow([_encodable(prediction.path), rank, name, round(p, 4)])
    return text.getvalue()


def _print_table(predictions: Sequence[Prediction], out: TextIO | None) -> None:
    readable = [prediction for prediction in predictions if prediction.top]
    if not readable:
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("image", overflow="fold")
    table.add_column("prediction")
    table.add_column("confidence", justify="right", no_wrap=True)
    if len(readable[0].top) > 1:
        table.add_column("then (%)", style="dim")
    for prediction in readable:
        (first, confidence), *rest = prediction.top
        cells = [_encodable(prediction.path), first, f"{confidence:.1f} %"]
        cells += [", ".join(f"{name} {p:.1f}" for name, p in rest)] if rest else []
        # Text, because rich would take [brackets] in a file name for markup.
        table.add_row(*map(Text, cells))
    console = Console(file=out)
    if not console.is_terminal:  # a pipe or a file has no width to fit
        console.width = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.print(table)


def _encodable(text: str) -> str:
    # File names that are not UTF-8 come as lone surrogates, which no stream accepts.
    return text.encode("utf-8", "backslashreplace").decode()
