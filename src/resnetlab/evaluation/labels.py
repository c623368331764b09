"""Labels that are probably wrong, by confident learning (arXiv:1911.00068)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from resnetlab.data.collection import Collection
from resnetlab.data.dataset import Subset
from resnetlab.data.encoded import EncodedDataset, some_of
from resnetlab.data.findings import Finding
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import (
    REPRODUCIBLE,
    backend_for,
    dataset_of,
    progress_batches,
)
from resnetlab.weights.checkpoint import load_checkpoint


def suspicious_labels(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Samples that are confidently of another class than their label says, the surest first.

    A network is confident of a class where its probability is at least the mean of that class's
    probabilities over the samples so labelled. probabilities (n, classes), of a network that was
    not trained on these samples; labels int64 (n,). Returns int64 (m,).
    """
    classes = probabilities.size(1)
    counts = torch.bincount(labels, minlength=classes)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    sums = torch.zeros(classes, dtype=probabilities.dtype).index_add_(0, labels, own)
    thresholds = torch.where(counts > 0, sums / counts.clamp(min=1), torch.inf)
    confident = probabilities >= thresholds - 1e-6
    likeliest = probabilities.argmax(1)
    guess = torch.where(confident.sum(1) > 1, likeliest, confident.int().argmax(1))
    wrong = confident.any(1) & (guess != labels) & (likeliest != labels)
    (found,) = wrong.nonzero(as_tuple=True)
    return found[own[found].argsort()]


def suspicious_labels_finding(
    run: str, name: str, whole: Collection, *, data_dir: str | Path | None = None
) -> list[Finding]:
    """Images that a run was not trained on, and that it is sure are of another class; or nothing.

    Raises UserError where the run has set aside no images of this data set.
    """
    checkpoint = load_checkpoint(run)
    found: list[tuple[float, str, str]] = []
    judged = 0
    for split in ("val", "test"):
        try:
            data = dataset_of(checkpoint, split, dataset=name, data_dir=data_dir)
        except UserError:
            continue  # it has no such split
        if not isinstance(data, Subset) or not isinstance(data.whole, EncodedDataset):
            raise UserError(f"`run` is for your own images, and {name} is not.")
        backend = backend_for(checkpoint, data, REPRODUCIBLE)
        parts = [logits for logits, _ in progress_batches(backend, data)]
        probabilities = (torch.cat(parts) / checkpoint.temperature).double().softmax(1)
        judged += len(data)
        for index in suspicious_labels(probabilities, data.labels).tolist():
            own = float(probabilities[index, data.labels[index]])
            path = data.whole.samples.path_of(int(data.indices[index]))
            found.append((own, path, data.classes[int(probabilities[index].argmax())]))
    if not judged:
        raise UserError(f"{run} has set aside no images of {name} to judge labels by.")
    if not found:
        return []
    found.sort()
    numbers = {whole.samples.path_of(index): index for index in range(len(whole))}
    told = some_of([f"{path} rather {likely}" for _, path, likely in found])
    return [
        Finding(
            kind="suspicious labels",
            severity="warning",
            text=f"{len(found):,} of {judged:,} labels that the run was not trained on are "
            f"suspicious ({told})",
            remedy="look at them, the surest first, and correct those that are wrong",
            images=tuple(numbers[path] for _, path, _ in found),
            paths=tuple(path for _, path, _ in found),
        )
    ]
