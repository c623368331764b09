"""``resnetlab finetune`` and ``lr-find``."""

from __future__ import annotations

from inspect import Parameter as Argument
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from resnetlab import console
from resnetlab.cli.train import OPTIONS, report, set_options
from resnetlab.recipes.table import get_recipe

_OWN = ("out", "resume_if_exists")
"""Options of train that are no fields of a recipe."""
_FIRST = Group("Options", sort_key=-1)
_START = Parameter(
    help="initial weights: a run folder, a file, a torchvision weight, a hub name; none: from "
    "scratch; default: for images of up to 64 pixels the bundled network, else torchvision's if "
    "its host answers, else from scratch",
    metavar="WEIGHTS",
    group=_FIRST,
)
_BUDGET = Parameter(
    help="time to take, roughly, such as 90s, 10m or 1h30m", metavar="TIME", group=_FIRST
)
_FINDINGS = Parameter(
    help="what becomes of images of which `data check` says that they mislead: error, or warn and "
    "train all the same",
    group=_FIRST,
)
_RUN = Parameter(help="run folder; default: runs/finetune-NAME", group=_FIRST)
_STEPS = Parameter(help="steps at most; it ends when the loss diverges", group=_FIRST)
_CURVE = Parameter(help="file to draw to: .png, .svg or .pdf", group=_FIRST)


def finetune(dataset: str, /, **options: Any) -> None:
    """Adapt a trained network to your images, in a given time.

    Your images are checked first; what would mislead is refused. Network, image
    size, batch and epochs follow from the data, the machine and the time, and four
    lines say why. Each choice is an option that you may give.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.training.finetune import finetune

    report(finetune(dataset, **options))


def lr_find(recipe: str, /, **options: Any) -> None:
    """Draw how the loss falls while the learning rate rises, and suggest one.

    Nothing is applied: the last line is what you would give to train.
    """
    with console.waiting("loading PyTorch"):
        from resnetlab.training.rates import lr_find

    found = lr_find(recipe, **options)
    console.print_line(found.picture)
    words = [f"--{name.replace('_', '-')} {rate:g}" for name, rate in found.changes.items()]
    own = get_recipe(recipe, **{k: v for k, v in options.items() if k not in ("steps", "out")})
    print(f"the recipe's lr is {own.lr:g}; this test suggests {found.suggestion:g}:")
    print(f"  resnetlab train {own.name} {' '.join(words)}")


def _recipe_options(*without: str) -> dict[str, Any]:
    return {name: hint for name, hint in OPTIONS.items() if name not in (*_OWN, *without)}


_fields = _recipe_options("dataset", "pretrained")
set_options(
    finetune,
    {
        "pretrained": Annotated[str | None, _START],
        "budget": Annotated[str, _BUDGET],
        "on_findings": Annotated[Literal["error", "warn"], _FINDINGS],
        "out": Annotated[Path | None, _RUN],
        **_fields,
    },
    {
        "pretrained": None,
        "budget": "10m",
        "on_findings": "error",
        "out": None,
        **dict.fromkeys(_fields),
    },
    Argument(
        "dataset",
        Argument.POSITIONAL_ONLY,
        annotation=Annotated[str, Parameter(help="a data set, or the path of your images")],
    ),
)
set_options(
    lr_find,
    {
        "steps": Annotated[int, _STEPS],
        "out": Annotated[Path, _CURVE],
        **_recipe_options(),
    },
    {"steps": 100, "out": Path("lr.png"), **dict.fromkeys(_recipe_options())},
    Argument(
        "recipe",
        Argument.POSITIONAL_ONLY,
        annotation=Annotated[str, Parameter(help="a recipe; see resnetlab train --help")],
    ),
)
