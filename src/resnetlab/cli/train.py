"""``resnetlab train`` and ``resume``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from resnetlab.cli.commands import Command, Group
from resnetlab.cli.options import Arg, Option, options_of, options_of_fields
from resnetlab.cli.shared import DataDir, Run
from resnetlab.recipes.table import ABOUT, RECIPES, resolve

if TYPE_CHECKING:
    from resnetlab.training.job import Training

COMMON = ("epochs", "seed", "lr", "batch_size", "model", "dataset", "out")
"""Parameters that stand first in the help; the others follow by the sections of the recipe."""

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


def resume(
    run: Run,
    *,
    epochs: Annotated[
        float | None, Arg("train to so many epochs in all, a finished run too", "X")
    ] = None,
    lr: Annotated[float | None, Arg("peak learning rate from here on", "X")] = None,
    norm_lr: Annotated[float | None, Arg("the same, of the norms and the biases", "X")] = None,
    muon_lr: Annotated[float | None, Arg("the same, of Muon", "X")] = None,
    warmup_share: Annotated[
        float | None, Arg("share of the training in which the rate rises to its peak", "X")
    ] = None,
    clip_norm: Annotated[
        float | None, Arg("largest norm of the gradient; 0: no clipping", "X")
    ] = None,
    accumulate: Annotated[
        int | None, Arg("parts that a batch is computed in, to save memory", "N")
    ] = None,
    execution: Annotated[
        str | None,
        Arg("auto, plain, or words such as bf16,channels_last,threads=2", "WORDS"),
    ] = None,
    data_dir: DataDir = None,
    accept_changes: Annotated[
        bool, Arg("go on although recipe.json was changed, or with more or fewer processes")
    ] = False,
) -> None:
    """Resume a run, bit for bit as if it had not been interrupted, or with other values.

    Where this machine cannot compute as the run did, another execution is chosen, and said.
    """
    from resnetlab.training.job import resume

    given = {"epochs": epochs, "lr": lr, "norm_lr": norm_lr, "muon_lr": muon_lr}
    given |= {"warmup_share": warmup_share, "clip_norm": clip_norm, "accumulate": accumulate}
    given |= {"execution": execution, "data_dir": data_dir}
    changes = {name: value for name, value in given.items() if value is not None}
    _report(resume(run, accept_changes=accept_changes, **changes))


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(Command):
    """``train`` with a recipe, whose fields are options."""

    recipe: str

    @property
    def about(self) -> str:
        return ABOUT[self.recipe]

    @cached_property
    def options(self) -> list[Option]:
        (_, out), fields = options_of(train), options_of_fields(RECIPES[self.recipe])
        options = {option.parameter: option for option in (out, *fields)}
        first = [replace(options.pop(name), group="common options") for name in COMMON]
        return [
            replace(option, metavar=_METAVARS.get(option.parameter, option.metavar))
            for option in (*first, *options.values())
        ]


TRAIN = Group(
    name="resnetlab train",
    about="Train a network and evaluate it on the test set at the end.",
    noun="recipe",
    present=resolve,
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
