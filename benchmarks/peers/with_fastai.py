"""fastai on a folder of classes, run by the Python of its own environment; see ``__main__``.

Prints one line of JSON. Its fits are counted in epochs: how many come nearest to the time is found
by a few batches before, whose weights are dropped.
"""

import argparse
import json
import sys
import time

import fastai
import torch
from fastai.vision.all import (
    Flip,
    ImageDataLoaders,
    Learner,
    Normalize,
    accuracy,
    aug_transforms,
    get_image_files,
    imagenet_stats,
    resnet18,
    vision_learner,
    xresnet18,
)

MEASURED = 12
"""Batches."""


def main() -> None:
    began = time.time()
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder")
    arguments.add_argument("seconds", type=float)
    arguments.add_argument("--tuned", action="store_true")
    options = arguments.parse_args()
    sys.stdout, stdout = sys.stderr, sys.stdout
    torch.manual_seed(0)
    learner = learner_of(options)
    left = options.seconds - (time.time() - began)
    epochs = max(1, round(left / seconds_of_epoch(learner_of(options))))
    print(f"{epochs} epochs", file=sys.stderr)
    with learner.no_bar():
        learner.fit_one_cycle(epochs, *([3e-3] if options.tuned else []))
    ended = time.time()
    test = get_image_files(options.folder, folders=["test"])
    _, top1 = learner.validate(dl=learner.dls.test_dl(test, with_labels=True, bs=256))
    values = {
        "top1": 100 * float(top1),
        "images": epochs * len(learner.dls.train_ds),
        "ended": ended,
        "network": "xresnet18" if options.tuned else "resnet18",
        "version": fastai.__version__,
    }
    print(json.dumps(values), file=stdout)


def learner_of(options: argparse.Namespace) -> Learner:
    """As its tutorials have it; tuned: what one core allows, cheap augmentation, larger batches."""
    if not options.tuned:
        data = ImageDataLoaders.from_folder(
            options.folder, train="train", valid="val", batch_tfms=aug_transforms()
        )
        return vision_learner(data, resnet18, pretrained=False, metrics=accuracy)
    transforms = [Flip(), Normalize.from_stats(*imagenet_stats)]
    data = ImageDataLoaders.from_folder(
        options.folder, train="train", valid="val", batch_tfms=transforms, bs=128, num_workers=0
    )
    return Learner(data, xresnet18(n_out=10), metrics=accuracy)


def seconds_of_epoch(learner: Learner) -> float:
    """Of training and validation, by a few batches."""
    learner.model.train()
    optimizer = torch.optim.Adam(learner.model.parameters())
    began = time.time()
    for number, (images, labels) in enumerate(learner.dls.train):
        learner.loss_func(learner.model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if number == 1:  # workers have started, memory is there
            began = time.time()
        if number == 1 + MEASURED:
            break
    seconds = (time.time() - began) / MEASURED
    batches = len(learner.dls.train) + len(learner.dls.valid) / 3
    return seconds * batches


if __name__ == "__main__":
    main()
