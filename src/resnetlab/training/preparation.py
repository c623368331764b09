"""What a recipe names, brought together before the first step, and whether it fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from resnetlab.compute.distributed import World
from resnetlab.compute.execution import Execution
from resnetlab.data.dataset import Dataset, cut, load_dataset
from resnetlab.data.sampling import epoch_batches
from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.summary import on_meta
from resnetlab.recipes.record import Recipe
from resnetlab.weights.checkpoint import Weights, read_weights


def load_pretrained(recipe: Recipe) -> Weights | None:
    """What the recipe starts from; None: from scratch."""
    if recipe.pretrained is None:
        return None
    architecture = get_architecture(recipe.model, **recipe.model_overrides)
    return read_weights(recipe.pretrained, architecture=architecture)


def fitting_architecture(recipe: Recipe, data: Dataset) -> Architecture:
    """The recipe's network with the channels and classes of the data."""
    fitting = {"in_channels": data.channels, "num_classes": len(data.classes)}
    return get_architecture(recipe.model, **fitting | dict(recipe.model_overrides))


def check_fit(recipe: Recipe, data: Dataset, world: World) -> None:
    """UserError, before anything is written, for a first batch that could not be trained on."""
    architecture = fitting_architecture(recipe, data)
    if recipe.execution != "auto":
        Execution.parse(recipe.execution)
    if architecture.num_classes != len(data.classes):
        raise UserError(
            f"model_overrides ask for num_classes {architecture.num_classes} and {data.name} has "
            f"{len(data.classes)} classes; leave num_classes out."
        )
    next(
        epoch_batches(
            len(data), recipe.batch_size, seed=0, epoch=0, rank=world.rank, world_size=world.size
        )
    )
    size = recipe.image_size or data.image_size
    if recipe.crop_mode == "reflect" and recipe.crop_padding >= size:
        raise UserError(
            f"crop_padding {recipe.crop_padding} cannot be reflected by images of {size} pixels; "
            "choose a smaller one, or crop_mode zero."
        )
    on_meta(architecture)(torch.empty(1, data.channels, size, size, device="meta"))
    if recipe.early_size and recipe.early_share:
        early = torch.empty(1, data.channels, recipe.early_size, recipe.early_size, device="meta")
        try:
            on_meta(architecture)(early)
        except UserError as error:
            raise UserError(f"early_size {recipe.early_size}: {error}") from None


def load_data(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """The training images, and those set aside if the recipe sets any aside."""
    data_dir = Path(recipe.data_dir) if recipe.data_dir else None
    whole = load_dataset(recipe.dataset, "train+val", data_dir=data_dir)
    if recipe.mean and recipe.std and len(recipe.mean) == whole.channels:
        whole = replace(whole, mean=recipe.mean, std=recipe.std)
    elif recipe.mean and not recipe.pretrained:  # weights of other channels bring means of others
        raise UserError(
            f"mean and std have {len(recipe.mean)} channels and {recipe.dataset} has "
            f"{whole.channels}; give a number for each."
        )
    train = cut(whole, "train", recipe.val_size, recipe.split_seed)
    val = cut(whole, "val", recipe.val_size, recipe.split_seed) if recipe.val_size else None
    return train, val
