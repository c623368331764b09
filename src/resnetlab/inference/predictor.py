"""What a trained network sees in images: decoded in threads ahead of it, in batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.compute.cores import on_fewer_where_faster
from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import available_cores
from resnetlab.console import print_to_stderr, progress
from resnetlab.data.find import find_images
from resnetlab.data.images import ImageSource, read_image
from resnetlab.data.prefetch import one_ahead
from resnetlab.errors import UserError
from resnetlab.inference.backends import Backend
from resnetlab.inference.choice import BackendName, open_backend
from resnetlab.inference.exported import Exported
from resnetlab.inference.network import load_network
from resnetlab.inference.prepare import inference_batch_size
from resnetlab.models.architecture import Architecture
from resnetlab.weights.checkpoint import Checkpoint

Item = TypeVar("Item")

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
    none_of_these: bool = False
    """whether the likeliest class is too unlikely to be believed; see ``Predictor``"""


class Predictor:
    """A trained network ready for images of any size and mode.

    Args:
        network: A path of a run folder or of a file of weights, or another source of
            ``load_checkpoint``; a file or bundle of ``resnetlab export``; a Checkpoint, which stays
            as it is; or a Backend.
        backend: What computes it: "torch", "onnx" (ONNX Runtime), "openvino", or "auto", the
            fastest here, measured once and remembered. By default weights are computed by PyTorch,
            and an exported file by the runtime that it is for. See ``open_backend``.
        execution: How it is computed; unused with a Backend. "auto" takes bf16 where the CPU has
            it, which changes probabilities a little.
        min_confidence: %; below it the answer is "none of these". By default the network's own
            threshold, if it has one; 0: never.
        model, model_overrides, mean, std, classes: What a foreign file does not tell; see
            ``load_network``.

    Raises:
        UserError: There is no network, no such backend or execution, or it is not installed.
    """

    @check_types
    def __init__(
        self,
        network: Backend | Checkpoint | Exported | str | Path,
        *,
        backend: BackendName | None = None,
        execution: Execution | str = "auto",
        min_confidence: float | None = None,
        model: str | Architecture | None = None,
        model_overrides: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: str | Path | Sequence[str] | None = None,
    ) -> None:
        if min_confidence is not None and not 0 <= min_confidence <= 100:
            raise UserError(f"`min_confidence` must be from 0 to 100 %, not {min_confidence:g}.")
        network = load_network(
            network,
            model=model,
            model_overrides=model_overrides,
            mean=mean,
            std=std,
            classes=classes,
        )
        if isinstance(network, Checkpoint | Exported):
            network = open_backend(network, backend, execution)
        elif backend:
            raise UserError(
                "`backend` is for a network that is yet to be loaded, not for a Backend."
            )
        self.backend: Backend = network
        if min_confidence is None:
            min_confidence = 100 * (network.threshold or 0.0)
        self.min_confidence = min_confidence

    def logits(self, images: Tensor) -> Tensor:
        """uint8 (n, c, size, size) -> fp32 (n, classes) on the CPU."""
        return self.backend.logits(images)

    def read(self, image: ImageSource) -> Tensor:
        """A path, encoded bytes or Pillow image as uint8 (c, size, size); UserError names it."""
        return read_image(image, self.backend.preprocessing)

    def __call__(self, image: ImageSource, *, topk: int = 5) -> Prediction:
        """The prediction for one image; UserError if it cannot be read."""
        (prediction,) = self.predict([image], topk=topk)
        if prediction.error:
            raise UserError(prediction.error)
        return prediction

    @check_types
    def predict(
        self, images: Iterable[ImageSource], *, topk: int = 5, batch_size: int | None = None
    ) -> Generator[Prediction, None, None]:
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
    ) -> Generator[Prediction, None, None]:
        batches = self.read_batches(images, batch_size)
        done = (list(self._predict_batch(batch, topk)) for batch in batches)
        for predictions in on_fewer_where_faster(done, torch.get_num_threads(), print_to_stderr):
            yield from predictions

    def read_batches(
        self, images: Iterable[ImageSource], batch_size: int | None = None
    ) -> Iterator[list[Decoded]]:
        """Names and pixels, uint8 (c, size, size), in order and in batches, decoded in threads.

        While the caller works on a batch, the next is being decoded, and no more than that.
        """
        batch_size = batch_size or inference_batch_size(self.backend.preprocessing.size)
        threads = available_cores()
        # Handing over a small image on its own costs twice its decoding.
        together = max(1, min(8, batch_size // (2 * threads)))
        parts = (
            list(_groups(batch, together)) for batch in _groups(enumerate(images, 1), batch_size)
        )
        for batch in one_ahead(self._try_read, parts, threads=threads):
            yield [image for part in batch for image in part]

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
        finite: Iterator[bool] = iter(())
        if pixels:
            logits = self.logits(torch.stack(pixels))
            finite = iter(logits.isfinite().all(1).tolist())
            top = iter(self.name_top(logits, topk))
        for name, image in batch:
            if not isinstance(image, Tensor):
                yield Prediction(name, error=str(image))
                continue
            named = next(top)
            if next(finite):
                unsure = named[0][1] < self.min_confidence
                yield Prediction(name, named, none_of_these=unsure)
            else:
                yield Prediction(name, error=f"the network's outputs for {name} are not finite")

    def name_top(self, logits: Tensor, topk: int = 5) -> list[tuple[tuple[str, float], ...]]:
        """For each row of logits (n, classes) its likeliest classes with probabilities in %."""
        # float64, so that percentages of sure networks do not all round to 100.
        percent = 100 * (logits.double() / self.backend.temperature).softmax(1)
        best = percent.topk(min(topk, percent.size(1)))
        classes = self.backend.classes
        return [
            tuple((classes[i], p) for i, p in zip(indices, row, strict=True))
            for indices, row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def _groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter where they do not suffice."""
    left = iter(items)
    while group := list(islice(left, size)):
        yield group


@check_types
def predict(
    run: Backend | Checkpoint | Exported | str | Path,
    images: ImageSource | Iterable[ImageSource],
    *,
    topk: int = 5,
    batch_size: int | None = None,
    backend: BackendName | None = None,
    execution: Execution | str = "auto",
    min_confidence: float | None = None,
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: str | Path | Sequence[str] | None = None,
) -> list[Prediction]:
    """The likeliest classes of one image or of several, in order.

    Args:
        run: What ``Predictor`` takes.
        images: A file, a folder (all images in it), encoded bytes or a Pillow image, or several of
            these. An unreadable one gives an entry with ``error``; the others are still predicted.
        topk: Classes an image.
        batch_size: Images at once; ``inference_batch_size`` unless given.
        backend, execution, min_confidence: See ``Predictor``.
        model, model_overrides, mean, std, classes: What a foreign file does not tell; see
            ``load_network``.

    Raises:
        UserError: A run without a network, a folder without images, a number below 1, or a wrong
            word of the execution.
    """
    single = isinstance(images, str | Path | bytes | Image.Image)
    predictor = Predictor(
        run,
        backend=backend,
        execution=execution,
        min_confidence=min_confidence,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    found = find_images([images] if single else images)
    predictions = predictor.predict(found, topk=topk, batch_size=batch_size)
    return list(progress(predictions, len(found), "predicting"))
