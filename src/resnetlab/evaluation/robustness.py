"""How much of a network's accuracy is left on corrupted images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.compute.execution import Execution
from resnetlab.console import progress
from resnetlab.data.dataset import Dataset
from resnetlab.data.prefetch import load_batches
from resnetlab.data.sampling import stratified_indices
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from resnetlab.evaluation.evaluate import REPRODUCIBLE, backend_for, dataset_of
from resnetlab.evaluation.metrics import Interval, mean_interval
from resnetlab.inference.backends import Backend
from resnetlab.inference.choice import BackendName
from resnetlab.inference.exported import Exported
from resnetlab.inference.network import load_network
from resnetlab.inference.prepare import inference_batch_size, inference_execution
from resnetlab.seeding import seeded_generator
from resnetlab.weights.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """A network's answers to the same images, clean and in each corruption and severity."""

    dataset: str
    split: str
    clean: Tensor
    """whether each image is recognised, bool (n,)"""
    right: Tensor
    """the same corrupted, bool (corruptions, severities, n), in the order of ``CORRUPTIONS``"""

    @property
    def n(self) -> int:
        """images"""
        return len(self.clean)

    @property
    def top1(self) -> float:
        """Mean over all corruptions and severities, %."""
        return 100 * float(self.right.double().mean())

    @property
    def top1_interval(self) -> Interval:
        """95 %, over the images: each one's mean is a measurement."""
        return mean_interval(100 * self.right.double().mean((0, 1)))

    @property
    def drop(self) -> float:
        """Percentage points of accuracy that the corruptions cost."""
        return 100 * float(self.clean.double().mean()) - self.top1

    def to_dict(self) -> dict[str, Any]:
        """For evaluation.json; accuracies in %."""
        clean = 100 * float(self.clean.double().mean())
        table = 100 * self.right.double().mean(2)
        rows = [
            {"name": name.replace("_", " "), "top1": float(row.mean())}
            | {"drop": clean - float(row.mean()), "by_severity": row.tolist()}
            for name, row in zip(CORRUPTIONS, table, strict=True)
        ]
        return {
            "dataset": self.dataset,
            "split": self.split,
            "n": self.n,
            "clean": clean,
            "top1": self.top1,
            "top1_interval": list(self.top1_interval),
            "drop": self.drop,
            "drop_interval": list(
                mean_interval(100 * (self.clean.double() - self.right.double().mean((0, 1))), -100)
            ),
            "severities": list(SEVERITIES),
            "corruptions": rows,
        }


@check_types
@torch_defaults()
def evaluate_corruptions(
    run: str | Path | Checkpoint | Exported,
    *,
    images: int = 1000,
    split: Literal["val", "test"] = "test",
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    split_file: str | Path | None = None,
    backend: BackendName | None = None,
    execution: Execution | str = REPRODUCIBLE,
    seed: int = 0,
) -> Robustness:
    """Evaluate on the 15 common corruptions at severities 1 to 5; see ``evaluation.corruptions``.

    Args:
        run: What ``evaluate`` takes; so are split, dataset, data_dir, split_file, backend and
            execution.
        images: How many are corrupted, as many of each class as that divides; 0: all. Each is
            looked at in 75 ways.
        seed: Of the choice, and of what the corruptions draw.

    Raises:
        UserError: What ``evaluate`` refuses, or a negative number of images.
    """
    if images < 0:
        raise UserError(f"`corruption_images` must be at least 0, not {images}.")
    execution = inference_execution(execution)
    checkpoint = load_network(run)
    data = dataset_of(checkpoint, split, dataset=dataset, data_dir=data_dir, split_file=split_file)
    ready = backend_for(checkpoint, data, execution, backend)
    return corrupted_answers(ready, data, images, seed=seed)


def corrupted_answers(
    backend: Backend, dataset: Dataset, images: int = 0, *, seed: int = 0
) -> Robustness:
    """The same for a backend whose logits stand in the order of the data set's classes."""
    dataset = dataset.prepared(backend.preprocessing)
    chosen = _choose(dataset.labels, images, seed)
    shares = chosen.split(inference_batch_size(backend.preprocessing.size))
    clean, corrupted = [], []
    kinds = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]

    def steps() -> Iterator[None]:
        for numbers, (batch, labels) in load_batches(dataset, iter(shares)):
            clean.append(backend.logits(batch).argmax(1) == labels)
            rows = []
            for name, severity in kinds:
                changed = corrupt(batch, name, severity, numbers.tolist(), seed=seed)
                rows.append(backend.logits(changed).argmax(1) == labels)
                yield
            corrupted.append(torch.stack(rows))

    total = math.ceil(len(shares)) * len(kinds)
    for _ in progress(steps(), total, f"evaluating corrupted images of {dataset.name}"):
        pass
    right = torch.cat(corrupted, 1).view(len(CORRUPTIONS), len(SEVERITIES), -1)
    return Robustness(
        dataset=dataset.name, split=dataset.split, clean=torch.cat(clean), right=right
    )


def _choose(labels: Tensor, count: int, seed: int) -> Tensor:
    """Ascending indices of so many images, equally many of each class as far as that divides."""
    if not 0 < count < len(labels):
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=seeded_generator(seed, "corruptions"))
    return order[stratified_indices(labels[order], count)].sort().values
