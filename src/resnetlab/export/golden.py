"""Images that an export is proven on, and those that go with it, with their answers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from resnetlab.data.dataset import Dataset, Subset
from resnetlab.data.encoded import EncodedDataset
from resnetlab.data.images import read_image
from resnetlab.data.memory import MemoryDataset
from resnetlab.data.prefetch import load_batches
from resnetlab.errors import UserError
from resnetlab.files import write_json
from resnetlab.inference.backends import Backend
from resnetlab.inference.prepare import inference_batch_size
from resnetlab.preprocessing import Preprocessing

GOLDEN = 8
"""Images that go with an export."""


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Some images of a data set, which the network is replayed on."""

    dataset: Dataset
    indices: Tensor
    """int64 (n,), of those that are replayed"""

    @property
    def name(self) -> str:
        whole = len(self.indices) == len(self.dataset)
        of = "" if whole else f"{len(self.indices):,} images of "
        return f"{of}{self.dataset.name}, {self.dataset.split}"

    def __len__(self) -> int:
        return len(self.indices)

    def first(self, n: int) -> Tensor:
        """uint8 (n or fewer, channels, size, size)"""
        return self.dataset.batch(self.indices[:n])[0].contiguous()

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        size = inference_batch_size(self.dataset.preprocessing.size)
        for _, batch in load_batches(self.dataset, self.indices.split(size)):
            yield batch

    def originals(self, n: int) -> Iterator[tuple[str, bytes]]:
        """The encoded images as they lie in the data set; of pixels in memory, PNG."""
        for index in self.indices[:n].tolist():
            yield _original(self.dataset, index)


def _original(dataset: Dataset, index: int) -> tuple[str, bytes]:
    while isinstance(dataset, Subset):
        dataset, index = dataset.whole, int(dataset.indices[index])
    if isinstance(dataset, EncodedDataset):
        suffix = PurePosixPath(dataset.samples.path_of(index)).suffix.lower()
        return suffix, dataset.samples.read(index)
    assert isinstance(dataset, MemoryDataset)
    pixels = dataset.images[index].permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2).numpy() if pixels.size(2) == 1 else pixels.numpy()).save(
        file, "PNG"
    )
    return ".png", file.getvalue()


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Files without labels."""

    paths: Sequence[Path]
    preprocessing: Preprocessing

    @property
    def name(self) -> str:
        return f"{len(self.paths):,} image{'s' if len(self.paths) > 1 else ''} without labels"

    def __len__(self) -> int:
        return len(self.paths)

    def first(self, n: int) -> Tensor:
        """uint8 (n or fewer, channels, size, size)"""
        return torch.stack([read_image(path, self.preprocessing) for path in self.paths[:n]])

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        size = inference_batch_size(self.preprocessing.size)
        for start in range(0, len(self.paths), size):
            part = self.paths[start : start + size]
            yield torch.stack([read_image(path, self.preprocessing) for path in part]), None

    def originals(self, n: int) -> Iterator[tuple[str, bytes]]:
        for path in self.paths[:n]:
            yield path.suffix.lower(), path.read_bytes()


ProofImages = LabelledImages | ImageFiles


def write_golden(images: ProofImages, backend: Backend, folder: Path) -> list[dict[str, Any]]:
    """Write a few images and golden.json, the answers of a backend to them, and return these.

    Each answer: file, logits, and for the five likeliest classes their names and probabilities.
    """
    folder.mkdir()
    answers = []
    for number, (suffix, data) in enumerate(images.originals(GOLDEN), 1):
        name = f"{number}{suffix}"
        (folder / name).write_bytes(data)
        pixels = read_image(folder / name, backend.preprocessing)
        logits = backend.logits(pixels[None])[0].double()
        if not bool(logits.isfinite().all()):
            raise UserError(f"the network's outputs for {name} are not finite.")
        probabilities = (logits / backend.temperature).softmax(0)
        best = probabilities.topk(min(5, len(probabilities)))
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        answers.append(
            {
                "file": name,
                "logits": [round(value, 5) for value in logits.tolist()],
                "top": [{"class": backend.classes[i], "probability": round(p, 6)} for i, p in top],
            }
        )
    write_json(folder / "golden.json", answers)
    return answers
