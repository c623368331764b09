"""A source's name turned into a file, fetched if need be."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from resnetlab.errors import UserError
from resnetlab.files import is_address, reading, shown_address, user_path
from resnetlab.models.architecture import ARCHITECTURES
from resnetlab.weights import hub
from resnetlab.weights.card import read_card

BEST = "best.pt"
"""The network of a run folder ..."""
SPLIT = "split.csv"
"""... and beside it, which of the user's own images it was trained on."""

BUNDLED = Path(__file__).parent / "bundled"
"""Holds NAME.safetensors, each with its model card NAME.json."""


def locate(source: str | Path) -> tuple[Path, dict[str, Any], str]:
    """The file of a source (fetched if need be), what is known of it, and its kind in plain words.

    See ``load_checkpoint`` for what a source may be. UserError if there is none such, or
    if it lies online and cannot be reached.
    """
    text = str(source)
    if is_address(source):
        text = shown_address(source)
        if not text.startswith("https://"):
            raise UserError(f"{text}: weights are fetched only over https; name a file instead.")
        return hub.download(text), {}, f"file from {urlsplit(text).hostname}"
    path = user_path(source)
    with reading(path):
        if path.is_dir():
            return _in_folder(path)
        if path.is_file():
            beside = path.name in hub.WEIGHTS and (path.parent / "config.json").is_file()
            return (path, _in_folder(path.parent)[1], "") if beside else (path, {}, "")
    if text in bundled_names():
        path = BUNDLED / f"{text}.safetensors"
        return path, read_card(json.loads(path.with_suffix(".json").read_text())), f"bundled {text}"
    if text.startswith(("hf-hub:", "hf_hub:", "timm/")):
        return hub.from_hub(re.sub("^hf.hub:", "", text))
    if match := re.fullmatch(r"(\w+)_Weights\.(\w+)|(\w+):(\w+)", text):
        return hub.from_torchvision(match[1] or match[3], match[2] or match[4])
    raise UserError(
        f"there is no file, run or bundled network {text!r} (bundled: {', '.join(bundled_names())})"
        ", and it is neither a torchvision weight (ResNet50_Weights.DEFAULT), nor a hub name "
        f"(timm/NAME, hf-hub:USER/REPO), nor an https address{_nearest(text)}"
    )


def _in_folder(folder: Path) -> tuple[Path, dict[str, Any], str]:
    """The network of a run, or of a folder that holds a Hugging Face repository."""
    if (folder / BEST).is_file():
        return folder / BEST, {}, f"run {folder.resolve().name}"

    def get(filename: str) -> Path | None:
        return folder / filename if (folder / filename).is_file() else None

    if found := hub.read_repository(str(folder), get):
        return (*found, f"repository {folder.resolve().name}")
    raise UserError(
        f"{folder} is a folder without a {BEST} or {hub.WEIGHTS[0]}; give a run or a file."
    )


def _nearest(text: str) -> str:
    """The end of the sentence about a name that is unknown."""
    bundled = bundled_names()
    near = [name for name in bundled if name.startswith(f"{text}-")]
    near += difflib.get_close_matches(text, bundled, n=1, cutoff=0.8)
    if near:
        return f"; did you mean {near[0]!r}?"
    if text in ARCHITECTURES and ARCHITECTURES[text].stem == "imagenet":
        return f"; did you mean '{text}:DEFAULT', torchvision's?"
    return "."


def bundled_names() -> list[str]:
    """Names of the networks that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))
