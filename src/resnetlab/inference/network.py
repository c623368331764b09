"""The network to use, with what a user knows of a foreign file that the file does not tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from resnetlab.errors import UserError, reason_of
from resnetlab.files import reading, user_path
from resnetlab.inference.exported import Exported, find_exported
from resnetlab.models.architecture import Architecture
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint

Loaded = TypeVar("Loaded")


def load_network(
    network: Loaded | str | Path,
    *,
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: str | Path | Sequence[str] | None = None,
) -> Loaded | Checkpoint | Exported:
    """``load_checkpoint`` with the options of a command; what is loaded already stays as it is.

    Args:
        network: A source of ``load_checkpoint``; a file that ``resnetlab export`` wrote for ONNX
            Runtime or OpenVINO, or a bundle; or what is loaded already.
        model: Architecture, or the name of one.
        model_overrides: Fields of the architecture that tensors cannot tell, e.g.
            ``{"stem": "cifar-pool"}``.
        mean: Of each channel, of pixels scaled to 0..1.
        std: Standard deviation, likewise.
        classes: Name of each output, or a file of them: a name a line, or a JSON list.

    Raises:
        UserError: There is no such network, an option does not fit it, or is given for what is
            loaded already.
    """
    options = {"model": model, "model_overrides": model_overrides or None, "mean": mean}
    options |= {"std": std, "classes": classes}
    given = [name for name, value in options.items() if value is not None]
    if not isinstance(network, str | Path):
        if given:
            raise UserError(
                f"`{given[0]}` is for a network that is yet to be loaded; give it to "
                "load_checkpoint."
            )
        return network
    if exported := find_exported(network):
        if given:
            raise UserError(
                f"`{given[0]}` is for weights; {network} holds all that is needed to use it."
            )
        return exported
    mean, std = _numbers("mean", mean), _numbers("std", std)
    if bool(mean) != bool(std):
        raise UserError("`mean` and `std` go together: give each a number for every channel.")
    if mean and max(mean) > 1:
        raise UserError(
            f"`mean` is of pixels scaled to 0..1, not {max(mean):g}; divide it and `std` by 255."
        )
    if isinstance(classes, str | Path):
        classes = read_classes(classes)
    return load_checkpoint(
        network, model=model, overrides=model_overrides, mean=mean, std=std, classes=classes
    )


def _numbers(name: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
    try:
        return None if values is None else tuple(map(float, values))
    except (TypeError, ValueError) as error:
        raise UserError(f"each of `{name}` must be a number: {reason_of(error)}.") from error


def load_layers(network: str | Path | Checkpoint | Exported, **options: Any) -> Checkpoint:
    """``load_network`` for who must look at layers; UserError for an exported file, without any."""
    loaded = load_network(network, **options)
    if isinstance(loaded, Exported):
        raise UserError(
            "an exported file does not show its layers; name the run or the weights that it was "
            "exported from."
        )
    return loaded


def read_classes(file: str | Path) -> list[str]:
    """Names out of a text file with one a line, or a JSON list; UserError if it holds others."""
    path = user_path(file)
    with reading(path):
        if path.exists() and not path.is_file():
            raise UserError(f"`classes` {path} is no file; give one with a name a line.")
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        is_json = path.suffix.lower() == ".json" or text.lstrip().startswith('["')
        names = json.loads(text) if is_json else text.splitlines()
    except ValueError as error:
        raise UserError(f"`classes` {path} cannot be read: {reason_of(error)}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"`classes` {path} must hold a name a line, or a JSON list of names.")
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise UserError(f"`classes` {path} has an empty line where a name should be.")
    return names
