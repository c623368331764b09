"""Where a fine-tuning may start from: somebody's weights, ours, torchvision's, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from resnetlab.console import waiting
from resnetlab.data.dataset import Dataset
from resnetlab.models.architecture import get_architecture
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES
from resnetlab.training.plan import SMALL_IMAGES
from resnetlab.weights.checkpoint import load_checkpoint
from resnetlab.weights.hub import torchvision_answers
from resnetlab.weights.recognition import named

TORCHVISION = {"resnet50": "IMAGENET1K_V2", "resnet18": "IMAGENET1K_V1"}
"""The networks for photographs, the better first, with the weights that they start from."""

BUNDLED = "resnet20-cifar10"
"""The network for small images."""

SIZES = (224, 192, 160, 128, 96)
"""Sides in pixels that photographs may have, the best first."""


FINETUNE = Recipe(
    name="finetune",
    head="fitted",
    optimizer="nesterov",
    lr=0.03,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_share=0.1,
    layer_decay=0.9,
    unfreeze_share=0.3,
    crop_padding=2,
    crop_mode="reflect",
)
"""How a pretrained network is fine-tuned, but for what depends on data, machine and time."""

SCRATCH = Recipe(
    name="finetune",
    optimizer="muon",
    lr=0.1,
    muon_lr=0.04,
    muon_momentum=0.8,
    warmup_share=0.1,
    crop_padding=2,
    crop_mode="reflect",
    flip="alternating",
)
"""How one is trained from scratch, likewise; after cifar10-quick."""

SMALL_SCRATCH = replace(RECIPES["cifar10-94"], name="finetune", tta="none")
"""How one is trained from scratch on small images if nobody names another network."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a fine-tuning may start from."""

    pretrained: str | None
    """a source of ``load_checkpoint``; None: from scratch"""
    model: str
    overrides: dict[str, int | str]
    sizes: tuple[int, ...]
    """sides in pixels of the images, the best first"""
    recipe: Recipe
    """how it is trained, but for what depends on data, machine and time"""
    why: str


def starts_for(pretrained: str | None, data: Dataset, changes: dict[str, Any]) -> Iterator[Start]:
    """What to start from: one network, or several of which the time decides."""
    size = data.preprocessing.size
    small = size <= SMALL_IMAGES
    if pretrained not in (None, "none"):
        yield _start(pretrained, size, f"as asked for: {pretrained}")
    elif "model" in changes or pretrained == "none":
        why, overrides = "from scratch, as asked for", dict(changes.get("model_overrides", {}))
        if small and "model" not in changes:
            yield _from_scratch(SMALL_SCRATCH.model, overrides, size, SMALL_SCRATCH, why)
        else:
            model = changes.get("model", "resnet18")
            yield _from_scratch(model, overrides, size, SCRATCH, why)
    elif small:
        yield _start(BUNDLED, size, f"the bundled {BUNDLED}, as the images are small")
    else:
        found = [name for name in TORCHVISION if torchvision_answers(name, TORCHVISION[name])]
        for name in found:
            source = f"{name}:{TORCHVISION[name]}"
            yield _start(source, size, f"torchvision's {source}")
        if not found:
            why = (
                "from scratch: torchvision's weights are neither in the cache nor to be had, as "
                "their host does not answer. A file that you have would do far better: `pretrained`"
            )
            yield _from_scratch("resnet18", {}, size, SCRATCH, why)


def _start(source: str, size: int, why: str) -> Start:
    """A start from weights; their architecture decides what images they can take."""
    with waiting(f"loading {source}"):
        checkpoint = load_checkpoint(source)
    model, overrides = named(checkpoint.architecture)
    if checkpoint.architecture.stem_stride == 1:  # made for small images
        sizes = (size,) if size <= SMALL_IMAGES else (SMALL_IMAGES,)
    elif "preprocessing" not in checkpoint.guessed:
        largest = checkpoint.preprocessing.size
        sizes = (largest, *(side for side in SIZES if side < largest))
    else:
        sizes = SIZES
    return Start(
        pretrained=source,
        model=model,
        overrides=overrides,
        sizes=sizes,
        recipe=FINETUNE,
        why=why,
    )


def _from_scratch(
    model: str, overrides: dict[str, int | str], size: int, recipe: Recipe, why: str
) -> Start:
    small = size <= SMALL_IMAGES
    if small and get_architecture(model, **overrides).stem_stride == 4:
        overrides = {"stem": "cifar"} | overrides
    sizes = (size,) if small else (*(side for side in SIZES if side <= size), SMALL_IMAGES)
    return Start(
        pretrained=None, model=model, overrides=overrides, sizes=sizes, recipe=recipe, why=why
    )
