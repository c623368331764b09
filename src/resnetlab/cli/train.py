"""``resnetlab train`` and ``resume``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from resnetlab.cli.commands import Command, Group
from resnetlab.cli.options import Arg, Option, options_of, options_of_fields
from resnetlab.cli.shared import Run
from resnetlab.recipes.table import ABOUT, RECIPES

if TYPE_CHECKING:
    from resnetlab.training.job import Training

GROUPS = {
    "common options": ("epochs", "seed", "lr", "batch_size", "model", "dataset", "out"),
    "network": ("pretrained", "model_overrides", "zero_init"),
    "data": ("data_dir", "val_size", "split_seed", "image_size", "mean", "std"),
    "augmentation": (
        *("flip", "crop_padding", "crop_mode", "cutout", "mixup", "cutmix", "label_smoothing"),
    ),
    "optimizer": (
        *("optimizer", "momentum", "norm_lr", "muon_lr", "muon_momentum", "weight_decay"),
        *("weight_decay_on", "clip_norm", "ema_decay"),
    ),
    "schedule": ("schedule", "milestones", "warmup_epochs", "warmup"),
    "speed and memory": ("execution", "accumulate", "early_size", "early_share"),
    "result": ("tta", "name"),
}
"""Title in the help -> parameters; the common ones first."""

_METAVARS = {"model_overrides": "FIELD VALUE ...", "execution": "WORDS", "pretrained": "WEIGHTS"}
_METAVARS |= {"model": "NAME", "dataset": "NAME"}


def train(
    recipe: str,
    *,
    out: Annotated[Path | None, Arg("run folder; default: runs/NAME", "RUN")] = None,
    **changes: Any,
) -> None:
    """Train a network and evaluate it on the test set at the end."""
    from resnetlab.training.job import train

    _report(train(recipe, out=out, **changes))


def resume(run: Run) -> None:
    """Resume an interrupted run, bit for bit."""
    from resnetlab.training.job import resume

    _report(resume(run))


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(Command):
    """``train`` with a recipe, whose fields are options."""

    recipe: str

    @property
    def about(self) -> str:
        return ABOUT[self.recipe]

    @cached_property
    def options(self) -> list[Option]:
        (out,) = (option for option in options_of(train) if option.parameter == "out")
        options = {
            option.parameter: option for option in (out, *options_of_fields(RECIPES[self.recipe]))
        }
        return [
            replace(options[name], group=title, metavar=_METAVARS.get(name, options[name].metavar))
            for title, names in GROUPS.items()
            for name in names
        ]


TRAIN = Group(
    name="resnetlab train",
    about="Train a network and evaluate it on the test set at the end.",
    noun="recipe",
    members={
        name: TrainRecipe(
            name=f"resnetlab train {name}", function=partial(train, name), recipe=name
        )
        for name in RECIPES
    },
)


def _report(training: Training) -> None:
    if training.test is None:
        return
    print(f"test accuracy {training.test.top1:.2f} % on {training.test.n:,} images")
    if training.test_tta is not None:
        result = training.test_tta
        print(f"with test-time augmentation ({result.tta}) {result.top1:.2f} %")
    validated = training.history[-1]["val_top1"] is not None
    chosen = "best on the validation images" if validated else "as it was at the end"
    for name, what in (
        ("best.pt", f"the network, {chosen}"),
        ("test.json", "its result on the test set"),
        ("metrics.jsonl", "every epoch"),
        ("curves.png", "the same as a picture"),
        ("last.pt", "the last state"),
        ("tensorboard", "events for TensorBoard"),
    ):
        print(f"  {training.run / name}  {what}")
