"""Images as training sees them, to be looked at."""

from __future__ import annotations

from dataclasses import replace

import torch

from resnetlab.data.memory import MemoryDataset
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.recipes.record import Recipe
from resnetlab.training.plan import load_data, make_plan
from resnetlab.training.step import make_batch


@torch_defaults()
def training_views(recipe: Recipe, *, views: int = 8) -> MemoryDataset:
    """The first training image of each class in so many epochs: augmented, and not normalised.

    What mixes images is left out, since what it makes has no one class.
    """
    recipe = replace(recipe, test_size=0, near_duplicates="ignore", mixup=0.0, cutmix=0.0)
    plan = make_plan(recipe, *load_data(recipe, report=lambda line: None))
    labels = plan.data.labels
    if not len(labels):
        raise UserError(f"{recipe.dataset} has no training images.")
    firsts = [int((labels == label).nonzero()[0]) for label in labels.unique()]
    indices = torch.tensor(firsts)
    late = plan.total_steps // plan.steps_per_epoch + 1  # when images have their full size
    seen = [make_batch(plan, indices, epoch=late + view, step=0)[0] for view in range(views)]
    how = plan.data.preprocessing
    mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
    images = torch.cat([255 * (batch.float() * std + mean) for batch in seen])
    return MemoryDataset(
        name=f"{plan.data.name} as {recipe.name} sees it",
        split=f"one image of each class in {views} epochs",
        images=images.round().clamp(0, 255).byte().contiguous(memory_format=torch.channels_last),
        labels=labels[indices].repeat(views),
        classes=plan.data.classes,
        preprocessing=replace(how, size=images.shape[-1], resize=None),
    )
