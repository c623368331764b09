"""Something to measure with: random pixels, a random photograph, an untrained network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image

from resnetlab.compute.execution import Execution
from resnetlab.data.memory import MemoryDataset
from resnetlab.inference.choice import BackendName
from resnetlab.inference.predictor import Predictor
from resnetlab.models.architecture import Architecture
from resnetlab.models.resnet import ResNet
from resnetlab.preprocessing import Preprocessing
from resnetlab.weights.checkpoint import Checkpoint

PHOTO = (500, 375)
"""Width and height in pixels that are usual in ImageNet."""


def random_file(width: int, height: int, format: Literal["JPEG", "PNG"] = "JPEG") -> bytes:
    """An image file of a picture about as busy as a photograph."""
    pixels = torch.rand(1, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(pixels, (height, width), mode="bilinear")[0]
    noise = 0.1 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    image = (255 * (smooth + noise).clamp(0, 1)).byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, quality=90)
    return file.getvalue()


def write_samples(folder: Path, image_size: int) -> list[Path]:
    """Two folders with an image file each, named after it: a photograph, and the network's size."""
    kinds: list[tuple[Literal["JPEG", "PNG"], int, int]]
    kinds = [("JPEG", *PHOTO), ("PNG", image_size, image_size)]
    folders = [folder / f"{format} of {width} x {height}" for format, width, height in kinds]
    for path, (format, width, height) in zip(folders, kinds, strict=True):
        path.mkdir()
        (path / f"image.{format.lower()}").write_bytes(random_file(width, height, format))
    return folders


def random_dataset(architecture: Architecture, image_size: int, n: int) -> MemoryDataset:
    """Random pixels and labels that fit a network."""
    generator = torch.Generator().manual_seed(0)
    channels, classes = architecture.in_channels, architecture.num_classes
    shape = (n, image_size, image_size, channels)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return MemoryDataset(
        name="random",
        split="train",
        images=pixels.permute(0, 3, 1, 2),
        labels=torch.randint(classes, (n,), generator=generator),
        classes=tuple(map(str, range(classes))),
        preprocessing=_preprocessing(architecture, image_size),
    )


def _preprocessing(architecture: Architecture, size: int) -> Preprocessing:
    channels = architecture.in_channels
    return Preprocessing(mean=(0.5,) * channels, std=(0.25,) * channels, size=size)


def random_predictor(
    architecture: Architecture,
    image_size: int,
    execution: Execution | str,
    backend: BackendName | None = None,
) -> Predictor:
    """A predictor with an untrained network."""
    checkpoint = Checkpoint(
        architecture=architecture,
        weights=ResNet(architecture).state_dict(),
        classes=tuple(map(str, range(architecture.num_classes))),
        preprocessing=_preprocessing(architecture, image_size),
    )
    return Predictor(checkpoint, backend=backend, execution=execution)
