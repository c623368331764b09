"""A network for somebody's own images, with every choice made from data, machine and time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetlab.arguments import check_types, seconds_of
from resnetlab.compute.execution import Execution
from resnetlab.compute.machine import compiler, default_threads
from resnetlab.console import print_to_stderr, waiting, with_flags
from resnetlab.data.dataset import Dataset
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.inference.prepare import inference_execution
from resnetlab.recipes.record import Recipe
from resnetlab.records import check_fields
from resnetlab.runs import Run
from resnetlab.training.job import Training, train
from resnetlab.training.plan import SMALL_IMAGES, early_cost, load_data, make_plan
from resnetlab.training.probe import seconds_an_image
from resnetlab.training.screening import OnFindings, screen
from resnetlab.training.split import open_data
from resnetlab.training.start import FINETUNE, Start, starts_for

LEAST_EPOCHS = 5
"""Of the whole network, below which smaller images or a smaller network are better."""
LEAST_EPOCHS_FROM_SCRATCH = 30

MOST_STEPS = 1500
"""After which a pretrained network has learnt what so few images can teach it."""

VIEWS = 4
"""Of each image, for the classifier: worth 0.4 to 1.2 points on 50 to 1,000 images of CIFAR-10
(seeds 0 to 2 each)."""

MOST_EPOCHS_FROM_SCRATCH = 300

SHARE_FOR_VIEWS = 0.1
"""Of the time, at most, for the features of all of them."""

SHARE_OF_BUDGET = 0.8
"""For the training; the rest is for start, validation and test."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What ``choose`` found."""

    recipe: Recipe
    lines: tuple[str, ...]
    """why: of the data, the network, the images, the training"""


@check_types
def finetune(
    dataset: str | Path,
    /,
    *,
    pretrained: str | None = None,
    budget: str = "10m",
    on_findings: OnFindings = "error",
    out: str | Path | None = None,
    **changes: Any,
) -> Training:
    """Adapt a trained network to a data set: ``finetune("photos", budget="5m")``.

    The images are checked first, as `resnetlab data check` does, and what would mislead is refused.
    Then the classifier is fitted on the features of the network as it is, in seconds; then, as
    far as the time goes, the later stages are trained, and then all. It is a run like others, so
    ``resume`` goes on with it, and every choice is a field of its recipe.

    Args:
        dataset: A name or a path, see ``load_dataset``.
        pretrained: A source of ``load_checkpoint``, or "none": from scratch. By default, for images
            of up to 64 pixels the bundled network, else torchvision's ResNet-50 or ResNet-18 if its
            host answers, else none.
        budget: The time to take, such as 90s, 10m or 1h; roughly, as the speed is measured on a few
            steps.
        on_findings: "warn" trains also on images of which the check says that they mislead.
        out: The run folder; by default runs/finetune-NAME.
        changes: Fields of ``Recipe``, which replace what would be chosen.

    Raises:
        UserError: Data that cannot be trained on, or an option that cannot work.
    """
    Run.check_new(out)
    choice = choose(
        dataset, pretrained=pretrained, budget=budget, on_findings=on_findings, **changes
    )
    for line in choice.lines:
        print_to_stderr(with_flags(line))
    return train(choice.recipe, out=out)


@torch_defaults()
def choose(
    dataset: str | Path,
    /,
    *,
    pretrained: str | None = None,
    budget: str = "10m",
    on_findings: OnFindings = "error",
    **changes: Any,
) -> Choice:
    """The recipe that ``finetune`` trains, and why; see there for the arguments."""
    check_fields(Recipe, changes)
    seconds, began = seconds_of(budget), time.perf_counter()
    screen(dataset, changes, on_findings, lambda line: print_to_stderr(with_flags(line)))
    data, splits = _data(dataset, changes)
    recipe = replace(FINETUNE, **splits)
    train_data, val = load_data(recipe, lambda line: None)  # train will say it
    starts = list(starts_for(pretrained, train_data, changes))
    # Whoever has many large images pays for looking at them once, but gets a training.
    left = max(seconds / 2, seconds - (time.perf_counter() - began))
    chosen, lines = _fit(recipe, starts, train_data, val, left, changes)
    return Choice(recipe=chosen, lines=(data, *lines))


def _data(dataset: str | Path, changes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A line about the data, and the fields of the recipe that name and divide them."""
    named = {"name": f"finetune-{Path(str(dataset)).name}", "dataset": str(dataset)} | changes
    whole = open_data(replace(FINETUNE, **named)).part("train+val")
    n, classes = len(whole), len(whole.classes)
    counts = torch.bincount(whole.labels, minlength=classes)
    rarest, most = int(counts.argmin()), int(counts.argmax())
    if counts[rarest] < 2:
        few = "one image" if counts[rarest] else "no image"
        raise UserError(
            f"{dataset}: class {whole.classes[rarest]!r} has {few} to train on, which cannot be "
            "learnt and validated; add some, or remove the class."
        )
    # A tenth of a few hundred images would choose at random.
    val_size = changes.get("val_size", 0.2 if n < 2000 else 0.1 if n < 50_000 else 5000)
    text = f"data: {n:,} images of {classes} classes to train and validate on"
    if counts[most] >= 5 * counts[rarest]:
        text += (
            f"; {whole.classes[rarest]!r} has {int(counts[rarest]):,} and {whole.classes[most]!r} "
            f"{int(counts[most]):,}: if rare classes matter as much, `class_weights` balanced"
        )
    return text, {"val_size": val_size} | named


def _fit(
    recipe: Recipe,
    starts: list[Start],
    data: Dataset,
    val: Dataset | None,
    seconds: float,
    changes: dict[str, Any],
) -> tuple[Recipe, list[str]]:
    """The best network and image size whose training fits into the time, and lines that say why."""
    execution = _execution()
    n, n_val = len(data), len(val) if val else 0
    tried = []
    for start in starts:
        settings = start.recipe.to_dict()
        settings |= {name: getattr(recipe, name) for name in ("name", "dataset", "val_size")}
        settings |= {"pretrained": start.pretrained, "model": start.model}
        settings |= {"model_overrides": start.overrides, "execution": str(execution)}
        settings |= _batch(start, n) | _image_settings(start) | changes
        largest = changes.get("image_size") or start.sizes[0]
        shown = replace(Recipe.from_dict(settings), image_size=largest)
        with waiting(f"measuring how fast {start.model} is here"):
            plan = make_plan(shown, data.prepared(_sized(data, largest)))
            # Of a few small images, a step would be little but the optimizer.
            probed = shown.batch_size if largest <= SMALL_IMAGES else 16
            step, forward = seconds_an_image(plan, probed)
        sizes = [largest] if "image_size" in changes else start.sizes
        least = LEAST_EPOCHS if start.pretrained else LEAST_EPOCHS_FROM_SCRATCH
        for size in sizes:
            scale = (size / largest) ** 2
            views = VIEWS if forward * scale * VIEWS * n < SHARE_FOR_VIEWS * seconds else 1
            views = changes.get("head_views", views)
            passes = forward * scale * (views * n + n_val) * bool(start.pretrained)
            average = 1 - shown.early_share * (1 - early_cost(shown, size))
            epoch = scale * (step * n * average + forward * n_val)
            epochs = (SHARE_OF_BUDGET * seconds - passes) / epoch
            sized = replace(shown, image_size=size, head_views=views)
            tried.append((epochs >= least, start, sized, epochs, passes))
            if epochs >= least:
                break
        if tried[-1][0]:
            break
    # Where nothing fits, of a network that is pretrained the features still may.
    fits, start, chosen, epochs, passes = tried[-1]
    if not fits and start.pretrained:
        usable = [each for each in tried if each[4] <= seconds]
        fits, start, chosen, epochs, passes = (usable or tried[-1:])[0]
    steps = max(1, n // chosen.batch_size)
    most = MOST_STEPS / steps if start.pretrained else MOST_EPOCHS_FROM_SCRATCH
    lines = [
        f"network: {chosen.model}, {start.why}",
        f"images: {chosen.image_size} pixels, batches of {chosen.batch_size}"
        + (f"; features of {_views(chosen)} in {passes:.0f} s, as measured" if passes else ""),
    ]
    if "freeze" not in changes and start.pretrained and not fits and "epochs" not in changes:
        text = "training: the classifier alone, on features of the network as it is; for more,"
        text += f" {LEAST_EPOCHS} epochs of the whole network would need a longer `budget`"
        return replace(chosen, freeze="backbone", execution="auto"), [*lines, text]
    if "epochs" in changes:
        epochs, limit = changes["epochs"], "as asked for"
    else:
        enough = epochs >= round(most)
        limit = "what so few images can teach" if enough else "what the time allows"
        epochs = max(1.0, min(_rounded(epochs), round(most)))
    # From scratch, most is gained in the end, as the rate falls to nothing.
    waits = start.pretrained and n_val
    patience = changes.get("patience", max(5, round(epochs / 4)) if waits else 0)
    chosen = replace(chosen, epochs=epochs, patience=patience)
    return chosen, [*lines, _training_line(chosen, start, limit)]


def _rounded(epochs: float) -> float:
    """Down to whole epochs; of a few, of which a part would be much of the time, to tenths."""
    return math.floor(epochs) if epochs >= 10 else math.floor(10 * epochs) / 10


def _views(recipe: Recipe) -> str:
    return "all" if recipe.head_views == 1 else f"{recipe.head_views} views of each"


def _training_line(recipe: Recipe, start: Start, limit: str) -> str:
    epochs = recipe.epochs
    if not start.pretrained:
        return f"training: {epochs:g} epoch{'s' if epochs != 1 else ''}, {limit}"
    if recipe.freeze == "backbone":
        return "training: the classifier alone, as asked for"
    later = round(recipe.unfreeze_share * epochs)
    phases = f"first {later} of the later stages, then of all; " if later else ""
    end = ", ended early if validation no longer gains" if recipe.patience else ""
    return (
        f"training: the classifier is fitted first, then {epochs:g} epochs ({phases}{limit}){end}"
    )


def _execution() -> Execution:
    """The fastest as a rule; ``training/probe.py`` would measure for half a minute."""
    eager = inference_execution()
    if eager.device == "cuda":
        return eager
    mode = "eager" if compiler() is None else "winograd" if eager.precision == "bf16" else "fused"
    return replace(eager, mode=mode, threads=default_threads())


def _batch(start: Start, n: int) -> dict[str, Any]:
    """A batch of which an epoch has ten or more, within what memory and time allow."""
    largest = start.recipe.batch_size if start.sizes[0] <= SMALL_IMAGES else 32
    size = min(largest, max(16, 2 ** math.floor(math.log2(max(n / 10, 1)))))
    return {"batch_size": size}


def _image_settings(start: Start) -> dict[str, Any]:
    """Augmentation for photographs; sizes that follow from the images'."""
    size = start.sizes[0]
    if size > SMALL_IMAGES:
        return {"resized_crop": 0.35, "crop_padding": 0}
    early = start.recipe.early_size
    return {"early_size": max(early, round(early * size / 32))} if early else {}


def _sized(data: Dataset, size: int) -> Any:
    return replace(data.preprocessing, size=size)
