"""A folder that runs without PyTorch: what lies in it beside the network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from resnetlab.export.check import Check, Speed
from resnetlab.version import __version__
from resnetlab.weights.checkpoint import Checkpoint

_SOURCE = Path(__file__).parents[1]

SHIPPED = (
    "errors.py",
    "records.py",
    "preprocessing.py",
    "compute/__init__.py",
    "compute/machine.py",
)
"""Files of this package that a bundle holds as they are: they need neither PyTorch nor each other's
neighbours."""


def write_bundle(
    folder: Path, checkpoint: Checkpoint, check: Check, speeds: Sequence[Speed], size: int
) -> None:
    """Add to a network and its golden images what runs them."""
    package = folder / "resnetlab"
    for name in SHIPPED:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_SOURCE / name, package / name)
    (package / "__init__.py").write_text('"""The part of resnetlab that a bundle needs."""\n')
    shutil.copyfile(_SOURCE / "export/template/predict.py", folder / "predict.py")
    packages = [f"{name}>={version(name)}" for name in ("numpy", "onnxruntime", "pillow")]
    (folder / "requirements.txt").write_text("\n".join(packages) + "\n")
    (folder / "README.md").write_text(_readme(checkpoint, check, speeds, size), encoding="utf-8")


def _readme(checkpoint: Checkpoint, check: Check, speeds: Sequence[Speed], size: int) -> str:
    classes = checkpoint.classes
    named = ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if classes[10:] else "")
    lines = [
        f"# {checkpoint.recipe.get('model', 'A residual network')}, {len(classes)} classes",
        "",
        f"{named}.",
        "",
        "```",
        "pip install -r requirements.txt",
        "python predict.py cat.jpg      # the likeliest classes",
        "python predict.py --check      # reproduces the golden answers",
        "```",
        "",
        "Normalisation and temperature are inside model.onnx; model.json says what it takes and "
        "gives. resnetlab/ holds the files that arranged the images in training, unchanged.",
        "",
        "## Checked before it was written",
        "",
        f"On {check.images}: {check.n:,} images, {check.differ:,} of them with another likeliest "
        f"class than in PyTorch; logits differ by at most {check.largest_difference:.1e} of the "
        "largest.",
        "",
        "| | top-1, % |" + "".join(f" images/s, {n} at once |" for n in _sizes(speeds)),
        "| --- | --- |" + " --- |" * len(_sizes(speeds)),
    ]
    for name in dict.fromkeys(speed.name for speed in speeds):
        top1 = check.reference_top1 if name.startswith("PyTorch, fp32") else check.top1
        rates = [f"{x.rate:,.1f} ({x.ratio:.2f})" for x in speeds if x.name == name]
        shown = "" if top1 is None else f"{top1:.2f}"
        lines.append(f"| {name} | {shown} | " + " | ".join(rates) + " |")
    return "\n".join(
        [
            *lines,
            "",
            f"In brackets: times PyTorch's speed. Measured in turn by resnetlab {__version__} on "
            f"the machine that exported it; model.onnx has {size / 1e6:,.1f} MB.",
            "",
        ]
    )


def _sizes(speeds: Sequence[Speed]) -> list[int]:
    return list(dict.fromkeys(speed.n for speed in speeds))
