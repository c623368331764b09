"""A recipe resolved against the data and the machine, once, before the first step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from resnetlab.compute.distributed import World
from resnetlab.compute.execution import PLAIN, Execution
from resnetlab.compute.machine import default_threads
from resnetlab.console import Report, print_to_stderr
from resnetlab.data.augmentation import Augmentation
from resnetlab.data.dataset import Dataset, first_drawn
from resnetlab.data.sampling import epoch_batches, steps_per_epoch
from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.summary import on_meta
from resnetlab.recipes.record import Recipe
from resnetlab.recipes.table import RECIPES
from resnetlab.training.pixels import keep_pixels
from resnetlab.training.split import open_data
from resnetlab.training.tuning import class_weights
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint
from resnetlab.weights.usual import UNKNOWN

SMALL_IMAGES = 64
"""Side in pixels up to which an ImageNet stem throws away resolution that a network would need."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a training needs to know; nothing downstream derives it again."""

    recipe: Recipe
    architecture: Architecture
    """the recipe's, with the channels and classes of the data"""
    data: Dataset
    """the training images, as the network sees them"""
    val: Dataset | None
    """the validation images, used to select best.pt; None: the last weights are kept"""
    augmentation: Augmentation
    execution: Execution
    """plain PyTorch as long as the recipe says "auto" """
    class_weights: Tensor | None
    """fp32 (classes,), what an error counts; None: all count alike"""
    steps_per_epoch: int
    total_steps: int
    """0 where the classifier alone is fitted"""
    early_steps: int
    """steps, from the first, whose images are of ``recipe.early_size``"""

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1, start_step: int = 0
    ) -> Iterator[Tensor]:
        """The indices of a rank's batches of an epoch, from ``start_step`` on."""
        return epoch_batches(
            len(self.data),
            self.recipe.batch_size,
            seed=self.recipe.seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            start_step=start_step,
            balance=self.data.labels if self.recipe.balanced == "sampling" else None,
        )

    def with_execution(self, execution: Execution) -> Plan:
        """The same, computed so; the recipe says so too."""
        recipe = replace(self.recipe, execution=str(execution))
        return replace(self, execution=execution, recipe=recipe)

    def set_up(self, execution: Execution) -> Plan:
        """The same, computed so, with the threads stated, as sums depend on their number.

        This process is set up for it.
        """
        if execution.device == "cpu":
            execution = replace(execution, threads=execution.threads or default_threads())
        execution.set_up()
        return self.with_execution(execution)


def early_cost(recipe: Recipe, size: int) -> float:
    """What a step of early, smaller images takes, in steps of images of ``size`` pixels.

    More than its share of their area: of five recipes the exponent was 0.68 to 1.17, median 0.8.
    """
    area = ((recipe.early_size or size) / size) ** 2
    return min(1.0, area**0.8)


def make_plan(recipe: Recipe, data: Dataset, val: Dataset | None = None) -> Plan:
    """The plan of a recipe for these images; UserError for what does not fit together."""
    fitting = {"in_channels": data.preprocessing.channels, "num_classes": len(data.classes)}
    architecture = get_architecture(recipe.model, **fitting | dict(recipe.model_overrides))
    if recipe.early_size:  # of another model's recipe, it may be less than this one can take
        recipe = replace(recipe, early_size=max(recipe.early_size, architecture.minimum_size))
    steps = steps_per_epoch(len(data), recipe.batch_size)
    early = math.ceil(recipe.early_share * recipe.epochs * steps) if recipe.early_size else 0
    return Plan(
        recipe=recipe,
        architecture=architecture,
        data=data,
        val=val,
        augmentation=Augmentation(
            resized_crop=recipe.resized_crop,
            crop_padding=recipe.crop_padding,
            crop_mode=recipe.crop_mode,
            flip=recipe.flip,
            color_jitter=recipe.color_jitter,
            auto_augment=recipe.auto_augment,
            cutout=recipe.cutout,
            random_erasing=recipe.random_erasing,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            seed=recipe.seed,
            preprocessing=data.preprocessing,
            num_classes=len(data.classes),
        ),
        execution=PLAIN if recipe.execution == "auto" else Execution.parse(recipe.execution),
        class_weights=class_weights(recipe, data.labels, len(data.classes)),
        steps_per_epoch=steps,
        total_steps=0 if recipe.freeze == "backbone" else max(1, round(recipe.epochs * steps)),
        early_steps=early,
    )


def load_pretrained(recipe: Recipe) -> Checkpoint | None:
    """What the recipe starts from; None: from scratch."""
    if recipe.pretrained is None:
        return None
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    matching = recipe.load == "matching"
    return load_checkpoint(
        recipe.pretrained, model=architecture, head=False, allow_mismatch=matching
    )


def has_same_classes(data: Dataset, weights: Checkpoint) -> bool:
    """Whether a classifier means the classes of the data; names count where they are known."""
    if len(data.classes) != weights.architecture.num_classes:
        return False
    return "classes" in weights.guessed or weights.classes == data.classes


def load_data(recipe: Recipe, report: Report = print_to_stderr) -> tuple[Dataset, Dataset | None]:
    """The training images, and the validation images if the recipe has any.

    ``report`` is told what is left out, and where decoded images are kept.
    """
    divided = open_data(recipe, report)
    if not divided.has("train"):
        raise UserError(f"{recipe.dataset} has no training images; name another `dataset`.")
    train = divided.part("train")
    preprocessing = train.preprocessing
    if recipe.mean and recipe.std and len(recipe.mean) == preprocessing.channels:
        preprocessing = replace(preprocessing, mean=recipe.mean, std=recipe.std)
    elif recipe.mean and not recipe.pretrained:  # weights of other channels bring means of others
        raise UserError(
            f"`mean` and `std` have {len(recipe.mean)} channels and {recipe.dataset} has "
            f"{preprocessing.channels}; give a number for each."
        )
    if recipe.image_size:
        preprocessing = replace(preprocessing, size=recipe.image_size)
    val = divided.part("val").prepared(preprocessing) if divided.has("val") else None
    train = train.prepared(preprocessing)
    train = first_drawn(train, recipe.train_size, recipe.split_seed)
    return keep_pixels(recipe, train, val, report)


def check_plan(plan: Plan, world: World) -> None:
    """UserError, before anything is written, for a batch that could not be trained on."""
    recipe, data, classes = plan.recipe, plan.data, len(plan.data.classes)
    if plan.architecture.num_classes != classes:
        raise UserError(
            f"`model_overrides` ask for num_classes {plan.architecture.num_classes} and "
            f"{data.name} has {classes} classes; leave num_classes out."
        )
    share = next(plan.batches(0, rank=world.rank, world_size=world.size))
    if recipe.sync_batchnorm == "on" and plan.execution.mode != "eager":
        raise UserError(
            f"`sync_batchnorm` on cannot be computed by `execution` {plan.execution.mode}; leave "
            "that word out."
        )
    size = data.preprocessing.size
    if recipe.crop_mode == "reflect" and recipe.crop_padding >= size:
        raise UserError(
            f"`crop_padding` {recipe.crop_padding} cannot be reflected by images of {size} pixels; "
            "choose a smaller one, or `crop_mode` zero."
        )
    part = len(share.chunk(recipe.accumulate)[-1])
    for side in (size, recipe.early_size) if plan.early_steps and recipe.early_size else (size,):
        if part * smallest_map(plan.architecture, side, data.preprocessing.channels) > 1:
            continue
        raise UserError(
            f"batch norm needs more than one value of each channel, but {recipe.model} makes maps "
            f"of 1 x 1 of {side} pixels, and a part of a batch is 1 image (`batch_size` "
            f"{recipe.batch_size}, {world.size} process(es), `accumulate` {recipe.accumulate}); "
            "give each part 2 images or more."
        )
    if world.size > 1 and (other := _rank_with_other_data(data, world)):
        raise UserError(
            f"process {other} finds other training images in {data.name} than process 0: copy the "
            "same files to all machines."
        )


def _rank_with_other_data(data: Dataset, world: World) -> int | None:
    seen = world.gather_objects((data.classes, data.labels.bincount().tolist()))
    return next((rank for rank, each in enumerate(seen) if each != seen[0]), None)


def smallest_map(architecture: Architecture, size: int, channels: int | None = None) -> int:
    """Pixels of the smallest map that batch norm sees of a square image.

    UserError if the network cannot take such an image.
    """
    seen = [size * size]
    model = on_meta(architecture)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, maps: seen.append(maps[0][0, 0].numel()))
    model(torch.empty(1, channels or architecture.in_channels, size, size, device="meta"))
    return min(seen)


def describe_plan(plan: Plan, weights: Checkpoint | None, processes: int) -> Iterator[str]:
    """Lines: what a person should know of this training before it takes its time."""
    recipe, architecture, size = plan.recipe, plan.architecture, plan.data.preprocessing.size
    if weights:
        yield from _describe_start(plan, weights)
    known = RECIPES.get(recipe.name)
    chosen = known is None or (known.model, known.model_overrides) != (
        recipe.model,
        recipe.model_overrides,
    )
    if chosen and size <= SMALL_IMAGES and architecture.stem_stride == 4:
        side = math.isqrt(smallest_map(architecture, size))
        yield (
            f"{recipe.model} on images of {size} pixels: its ImageNet stem leaves maps of {side} x "
            f"{side} at the end; --model-overrides stem cifar keeps the resolution"
        )
    if processes > 1 and recipe.sync_batchnorm == "off":
        yield (
            f"{processes} processes share each batch: batch norm sees the images of one process "
            "alone, so the numbers are not those of one process (--sync-batchnorm on: nearly)"
        )


def _describe_start(plan: Plan, weights: Checkpoint) -> Iterator[str]:
    """What is taken of the weights that a training starts from, what replaced, what assumed."""
    theirs, ours, data = weights.architecture, plan.architecture, plan.data
    head = {"fc.weight", "fc.bias"}
    taken = weights.weights.keys() - weights.fresh
    if not has_same_classes(data, weights):
        taken -= head
    yield f"starting from {weights.origin}: {len(taken)} of {len(weights.weights)} tensors taken"
    if not head <= taken:
        before = "" if head & weights.fresh else f", in place of its {theirs.num_classes:,}"
        yield f"  the classifier is a fresh one of {ours.num_classes:,} classes{before}"
    if ours.in_channels != theirs.in_channels:
        yield (
            f"  the first convolution takes images of {data.preprocessing.channels} channel(s), "
            f"not {theirs.in_channels}: with the mean of its weights for each"
        )
    known = "preprocessing" not in weights.guessed
    if not known or data.preprocessing.mean != weights.preprocessing.mean:
        its = "which is not as in its training" if known else "as its own is not recorded"
        yield f"  images are normalised as those of {data.name}, {its}"
    yield from (f"  {note}" for note in weights.notes if known or note != UNKNOWN)
