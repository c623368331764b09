"""Labels that are probably wrong, by confident learning (arXiv:1911.00068)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from resnetlab.data.collection import Collection
from resnetlab.data.dataset import Subset
from resnetlab.data.encoded import EncodedDataset, some_of
from resnetlab.data.findings import Finding
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import REPRODUCIBLE, backend_for, progress_batches
from resnetlab.evaluation.linear import best_on, penalty_path
from resnetlab.evaluation.source import open_for
from resnetlab.inference.backends import TorchBackend
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint

FOLDS = 5
"""... that images which were trained on are judged in."""


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


def out_of_fold(inputs: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Probabilities of samples by linear classifiers that were not fitted to them.

    inputs (n, d), a network's features; labels int64 (n,). Each of ``FOLDS`` classifiers judges its
    fold of every class and is fitted to the others. Neighbours, often pictures of one scene, are in
    one fold. Returns float64 (n, classes).
    """
    inputs = (inputs - inputs.mean(0)) / inputs.std(0).clamp_min(1e-6)
    fold = torch.empty_like(labels)
    for label in labels.unique():
        (of_class,) = (labels == label).nonzero(as_tuple=True)
        fold[of_class] = torch.arange(len(of_class)) * FOLDS // len(of_class)
    found = torch.empty(len(labels), classes, dtype=torch.float64)
    penalty = 0.0
    for number in range(FOLDS):
        held = fold == number
        path = penalty_path(inputs[~held], labels[~held], classes, down_to=penalty)
        if number == 0:
            penalty, classifier = best_on(inputs[held], labels[held], path)
        else:
            *_, (_, classifier) = path
        found[held] = classifier(inputs[held]).double().softmax(1)
    return found


def suspicious_labels_finding(
    run: str, name: str, whole: Collection, *, data_dir: str | Path | None = None
) -> list[Finding]:
    """Images that a run is sure are of another class, none judged by what was fitted to it.

    Images of its validation and test splits are judged by its network; those that it was trained on
    by classifiers of features, see ``out_of_fold``: those of the network that it was fine-tuned
    from, which knows no label of theirs. A run from scratch has its own alone; where it learnt
    wrong labels by heart, it hides them. Raises UserError where `run` is not of such images.
    """
    checkpoint = load_checkpoint(run)
    divided = open_for(checkpoint, name, data_dir=data_dir)
    found: list[tuple[float, str, str]] = []
    judged = 0
    for split in ("train", "val", "test"):
        if not divided.has(split):
            continue
        data = divided.part(split, checkpoint.classes).prepared(checkpoint.preprocessing)
        if not isinstance(data, Subset) or not isinstance(data.whole, EncodedDataset):
            raise UserError(f"`run` is for your own images, and {name} is not.")
        probabilities = _probabilities(checkpoint, data)
        judged += len(data)
        for index in suspicious_labels(probabilities, data.labels).tolist():
            own = float(probabilities[index, data.labels[index]])
            path = data.whole.samples.path_of(int(data.indices[index]))
            found.append((own, path, data.classes[int(probabilities[index].argmax())]))
    if not found:
        return []
    found.sort()
    numbers = {whole.samples.path_of(index): index for index in range(len(whole))}
    told = some_of([f"{path} rather {likely}" for _, path, likely in found])
    return [
        Finding(
            kind="suspicious labels",
            severity="warning",
            text=f"{len(found):,} of {judged:,} labels are suspicious ({told})",
            remedy="look at them, the surest first, and correct those that are wrong",
            images=tuple(numbers[path] for _, path, _ in found),
            paths=tuple(path for _, path, _ in found),
        )
    ]


def _probabilities(checkpoint: Checkpoint, data: Subset) -> Tensor:
    """float64 (n, classes), of nothing that was fitted to these images"""
    if data.split == "train":
        backend = TorchBackend.load(_before_training(checkpoint), REPRODUCIBLE)
        backend.model.fc = nn.Identity()
        features = torch.cat([batch for batch, _ in progress_batches(backend, data)])
        return out_of_fold(features, data.labels, len(data.classes))
    backend = backend_for(checkpoint, data, REPRODUCIBLE)
    logits = torch.cat([batch for batch, _ in progress_batches(backend, data)])
    return (logits / checkpoint.temperature).double().softmax(1)


def _before_training(checkpoint: Checkpoint) -> Checkpoint:
    """What a run was fine-tuned from; its own network if there is no such thing any more."""
    preprocessing = checkpoint.preprocessing
    if source := checkpoint.recipe.get("pretrained"):
        with suppress(UserError):
            start = load_checkpoint(source, model=checkpoint.architecture, head=False)
            if start.preprocessing.channels == preprocessing.channels:
                return replace(start, preprocessing=preprocessing)
    return checkpoint
