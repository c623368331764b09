"""One HTML page of a run: what was trained on what, how good it is, and what it cannot know."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resnetlab.arguments import check_types
from resnetlab.compute.machine import available_cores, processor
from resnetlab.console import print_to_stderr, waiting
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.evaluation.calibration import remark
from resnetlab.evaluation.evaluate import dataset_of, evaluate
from resnetlab.files import user_path, write_text
from resnetlab.models.summary import summarize
from resnetlab.plots.architecture import figure_architecture
from resnetlab.plots.curves import figure_curves
from resnetlab.plots.evaluation import evaluation_figures
from resnetlab.plots.heatmaps import figure_heatmaps
from resnetlab.recipes.command import train_command
from resnetlab.report.findings import Mistake, file_mb, find_mistakes, measure_inference
from resnetlab.report.inline import inline_svg
from resnetlab.runs import Run, best_epoch
from resnetlab.version import __version__
from resnetlab.weights.checkpoint import Checkpoint

SPLITS: tuple[Literal["test", "val"], ...] = ("test", "val")
"""The first that is there is reported."""
LICENCES = {
    "cifar10": "its authors state no licence; it is published for research, and its images come "
    "from the web",
    "fashion-mnist": "MIT licence",
}
"""Data set (the beginning of its name) -> under what terms it is published."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure of the page."""

    svg: Markup
    caption: str


@check_types
@torch_defaults()
def write_report(
    run: str | Path, *, out: str | Path | None = None, data_dir: str | Path | None = None
) -> Path:
    """Write one self-contained HTML page about a run, and return its path.

    The page needs no network and no script; it shows what evaluation.json holds, and evaluates
    first where that holds no result. Mistakes and heat maps need the data set: where that is no
    longer to be had, the page says so.

    Args:
        run: The run folder.
        out: The file; by default report.html in the folder.
        data_dir: Folder that already holds the data set.

    Raises:
        UserError: ``run`` is no run folder, or has no finished epoch yet.
    """
    folder = Run(run)
    path = user_path(out) if out is not None else folder.report_file
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"`out` {path}: name a file that ends in .html.")
    recipe, metrics, checkpoint = folder.recipe, folder.metrics, folder.best
    if not metrics:
        raise UserError(f"{folder.path} has no finished epoch to report yet.")
    with waiting(f"writing {path}"):
        values = _values(folder, checkpoint, data_dir)
        values |= {"recipe": recipe, "command": _command(folder)}
        page = _environment().get_template("report.html.j2").render(values)
    write_text(path, page)
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("resnetlab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value, digits=2: f"{value:,.{digits}f}"
    return environment


def _values(run: Run, checkpoint: Checkpoint, data_dir: str | Path | None) -> dict[str, Any]:
    """What the template reads."""
    evaluations, trouble = _evaluations(run, data_dir)
    split = _judged(evaluations)
    result = evaluations[split] if split else None
    corruptions = evaluations.get(f"{split}, corruptions")
    mistakes, heatmaps, lost = _looked_up(checkpoint, result, data_dir)
    layers = summarize(checkpoint.architecture, checkpoint.preprocessing.size)
    metrics = run.metrics
    return {
        "name": run.path.resolve().name,
        "today": date.today().isoformat(),
        "checkpoint": checkpoint,
        "parameters": sum(layer.parameters for layer in layers),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "result": result,
        "augmented": [v for k, v in evaluations.items() if k.startswith(f"{split}, flip")],
        "corruptions": corruptions,
        "remark": remark(checkpoint.temperature),
        "trouble": trouble or lost,
        "metrics": metrics,
        "best": metrics[best_epoch(metrics)],
        "drawings": _drawings(run, checkpoint, result, corruptions) | heatmaps,
        "mistakes": mistakes,
        "seconds": sum(line["seconds"] for line in metrics),
        "inference": measure_inference(checkpoint),
        "weights_mb": file_mb(run.best_file),
        "versions": _versions(),
        "licence": _licence(checkpoint.dataset),
        "evaluate": shlex.join(["resnetlab", "evaluate", str(run.path), "--corruptions"]),
    }


def _evaluations(run: Run, data_dir: str | Path | None) -> tuple[dict[str, Any], str | None]:
    """Those of the folder, made first where there is none; and why there is none."""
    found = run.evaluations
    if _judged(found):
        return found, None
    trouble = None
    for split in SPLITS:
        try:
            evaluate(run.path, split=split, data_dir=data_dir)
            return run.evaluations, None
        except UserError as error:
            trouble = str(error)
    return found, trouble


def _judged(evaluations: Mapping[str, Any]) -> str | None:
    """The split that the page tells of; an evaluation of old has no mistakes, so it is none."""
    return next((name for name in SPLITS if "mistakes" in evaluations.get(name, ())), None)


def _looked_up(
    checkpoint: Checkpoint, result: Mapping[str, Any] | None, data_dir: str | Path | None
) -> tuple[list[Mistake], dict[str, Drawing], str | None]:
    """Mistakes and heat maps; and why there are none, if the data is not to be had."""
    if result is None:
        return [], {}, None
    try:
        data = dataset_of(checkpoint, result["split"], data_dir=data_dir)
        prepared = replace(checkpoint, preprocessing=data.preprocessing)
        mistakes, explained, note = find_mistakes(prepared, data, result["mistakes"])
    except UserError as error:
        print_to_stderr(f"resnetlab: no mistakes in the report: {error}")
        return [], {}, str(error)
    if not explained:
        return mistakes, {}, None
    words = "; ".join(
        f"an image ({one.title}) and where the network sees {', '.join(n for n, _ in one.top)}"
        for one in explained
    )
    words = f"Heat maps: {words}"
    caption = "Some of these mistakes, and what in them speaks for the likeliest classes"
    drawing = _drawing("heatmaps", figure_heatmaps(explained, note=note), words, caption)
    return mistakes, {"heatmaps": drawing}, None


def _drawings(
    run: Run,
    checkpoint: Checkpoint,
    result: Mapping[str, Any] | None,
    corruptions: Mapping[str, Any] | None,
) -> dict[str, Drawing]:
    metrics = run.metrics
    best = metrics[best_epoch(metrics)]
    epochs = "1 epoch" if len(metrics) == 1 else f"{len(metrics)} epochs"
    words = f"Loss, accuracy and learning rate over {epochs}"
    if best.get("val_top1") is not None:
        words += f"; best validation accuracy {best['val_top1']:.2f} % in epoch {best['epoch']}"
    size = checkpoint.preprocessing.size
    model = checkpoint.recipe.get("model", "network")
    network = figure_architecture(checkpoint.architecture, size, title=model)
    drawings = {
        "curves": _drawing("curves", figure_curves(metrics), words),
        "network": _drawing("network", network, _architecture_words(checkpoint)),
    }
    if result is None:
        return drawings
    worst = min(result["per_class"], key=lambda row: row["recall"])
    error = result["calibration_error"], result["tempered_calibration_error"]
    captions = {
        "confusion": f"Which class is taken for which: {result['top1']:.2f} % of "
        f"{result['n']:,} images are right; the table below has each class",
        "classes": f"Recognised images of each class with intervals; fewest of {worst['class']}, "
        f"{worst['recall']:.1f} %",
        "reliability": "Right predictions by confidence: the calibration error is "
        f"{error[0]:.2f} % as trained and {error[1]:.2f} % after the temperature",
    }
    if corruptions:
        captions["corruptions"] = (
            f"Accuracy by corruption and severity: {corruptions['top1']:.1f} % on average, "
            f"{corruptions['clean']:.1f} % without corruption"
        )
    figures = evaluation_figures(result, corruptions)
    return drawings | {key: _drawing(key, figures[key], captions[key]) for key in figures}


def _drawing(name: str, figure: Any, words: str, caption: str | None = None) -> Drawing:
    return Drawing(svg=inline_svg(figure, name, words), caption=f"{caption or words}.")


def _architecture_words(checkpoint: Checkpoint) -> str:
    a = checkpoint.architecture
    stages = ", ".join(map(str, a.depths))
    kind = "plain" if a.shortcut == "none" else "residual"
    return f"The {kind} network, {a.num_layers} layers: stages of {stages} {a.block} blocks"


def _command(run: Run) -> str:
    """What trains it again; the execution is chosen for each machine."""
    return shlex.join(train_command(replace(run.recipe, execution="auto")))


def _versions() -> dict[str, str]:
    return {
        "resnetlab": __version__,
        "PyTorch": torch.__version__,
        "torchvision": version("torchvision"),
        "Python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": f"{processor()}, cores for this process: {available_cores()}",
    }


def _licence(dataset: str | None) -> str:
    known = (text for name, text in LICENCES.items() if (dataset or "").startswith(name))
    return next(known, "not known to this program; ask whoever gave you the images")
