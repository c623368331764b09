"""What a report shows beside evaluation.json: mistakes, heat maps, speed, looked up once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from resnetlab.benchmark.timing import rate_fields, repeat
from resnetlab.data.dataset import Dataset
from resnetlab.data.images import normalize
from resnetlab.evaluation.evaluate import REPRODUCIBLE, backend_for
from resnetlab.evaluation.explanation import Explanation, heat_maps, stage_for
from resnetlab.inference.backends import Backend, TorchBackend
from resnetlab.inference.prepare import inference_execution
from resnetlab.report.inline import inline_png
from resnetlab.weights.checkpoint import Checkpoint

EXPLAINED, LIKELIEST = 4, 3
"""Mistakes that have heat maps; classes that each of those is drawn for."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image, what it was taken for and what it is."""

    png: str
    """its address in the page"""
    predicted: str
    true: str
    confidence: float
    """%"""


def find_mistakes(
    checkpoint: Checkpoint, dataset: Dataset, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Mistake], list[Explanation], str | None]:
    """The mistakes that an evaluation keeps; where the network saw some; a remark on the maps.

    rows: ``Evaluation.mistakes`` of this network on this data set.
    """
    if not rows:
        return [], [], None
    images, _ = dataset.batch(torch.tensor([row["image"] for row in rows]))
    mistakes = [
        Mistake(
            png=inline_png(image),
            predicted=row["predicted"],
            true=row["true"],
            confidence=row["confidence"],
        )
        for image, row in zip(images, rows, strict=True)
    ]
    model = checkpoint.build()
    stage, note = stage_for(model, checkpoint.preprocessing.size)
    backend = backend_for(checkpoint, dataset, inference_execution(REPRODUCIBLE))
    shown = images[:EXPLAINED]
    percent = 100 * (backend.logits(shown).double() / backend.temperature).softmax(1)
    explained = []
    for image, mistake, row in zip(shown, mistakes, percent, strict=False):
        chosen = row.argsort(descending=True)[: min(LIKELIEST, len(row))]
        x = normalize(image[None], checkpoint.preprocessing).expand(len(chosen), -1, -1, -1)
        own = torch.tensor([checkpoint.classes.index(dataset.classes[i]) for i in chosen.tolist()])
        explained.append(
            Explanation(
                title=f"true: {mistake.true}",
                pixels=image,
                top=tuple((dataset.classes[i], float(row[i])) for i in chosen.tolist()),
                maps=heat_maps(model, x, own, stage=stage),
                stage=stage,
            )
        )
    return mistakes, explained, note


def measure_inference(checkpoint: Checkpoint, execution: str = "auto") -> list[dict[str, Any]]:
    """Images a second of this network on this machine, one at a time and 32 at once.

    From pixels to logits, reading of files not included; a second or so each.
    """
    backend: Backend = TorchBackend.load(checkpoint, inference_execution(execution))
    p = checkpoint.preprocessing
    rows = []
    for batch in (1, 32):
        images = torch.randint(0, 256, (batch, p.channels, p.size, p.size), dtype=torch.uint8)
        times = repeat(partial(backend.logits, images), repeats=30, seconds=1.0)
        rows.append(rate_fields(times, batch))
    return rows


def file_mb(path: Path) -> float:
    """Size in MB (a million bytes)."""
    return path.stat().st_size / 1e6
