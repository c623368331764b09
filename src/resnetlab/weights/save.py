"""Weights written to files, ours and other libraries'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.errors import UserError
from resnetlab.files import atomic_write, not_whole, user_path
from resnetlab.models.architecture import Architecture
from resnetlab.models.resnet import ResNet
from resnetlab.preprocessing import Preprocessing
from resnetlab.weights.card import FIELDS, FORMAT
from resnetlab.weights.digest import digest
from resnetlab.weights.recognition import differences


def export_state_dict(model: ResNet, layout: Literal["torchvision", "timm"]) -> dict[str, Tensor]:
    """The tensors as that library's ``load_state_dict(strict=True)`` takes them, on the CPU.

    The names are ours already; what is checked is that the library computes the same with them.
    UserError if it has no such network.
    """
    a = model.architecture
    stem, shortcut = "imagenet", "B"
    if layout == "timm":
        stem = "deep" if a.stem == "deep" else stem
        shortcut = "D" if a.shortcut == "D" else shortcut
    elif layout != "torchvision":
        raise UserError(f"layout must be torchvision or timm, not {layout!r}.")
    depths = a.depths if len(a.depths) == 4 else (1, 1, 1, 1)
    theirs = Architecture(
        block=a.block,
        depths=depths,
        stem=stem,
        shortcut=shortcut,
        groups=a.groups,
        width_per_group=a.width_per_group,
        in_channels=a.in_channels,
        num_classes=a.num_classes,
    )
    if others := differences(theirs, a):
        raise UserError(f"{layout} has no ResNet of {', '.join(others)}; leave layout out.")
    return _copies(model.state_dict())


@check_types
def save_weights(
    model: ResNet,
    path: str | Path,
    *,
    layout: Literal["torchvision", "timm"] | None = None,
    **card: Any,
) -> Path:
    """Write ``path`` (.safetensors, or .pt/.pth) whole or not at all, and return it.

    ``card``: any of classes, preprocessing, temperature, threshold, dataset, metrics, recipe; they
    and the architecture go into the file, from which ``load_checkpoint`` takes them. A .pth with a
    ``layout`` is a bare state dict instead, as that library's users expect. Raises UserError for
    another field or ending, or where the file cannot be written.
    """
    if unknown := [name for name in card if name not in FIELDS[1:]]:
        has = ", ".join(FIELDS[1:])
        raise UserError(f"a weights file has no field {unknown[0]!r}; it may have {has}.")
    if isinstance(preprocessing := card.get("preprocessing"), Preprocessing):
        card["preprocessing"] = preprocessing.to_dict()
    tensors = export_state_dict(model, layout) if layout else model.state_dict()
    card = {"architecture": model.architecture.to_dict(), **card}
    bare = layout is not None and Path(path).suffix != ".safetensors"
    return write_weights(tensors, path, None if bare else card)


def write_weights(
    tensors: Mapping[str, Tensor], path: str | Path, card: dict[str, Any] | None
) -> Path:
    """Tensors and a card (see ``card.FIELDS``), or without a card a bare state dict."""
    path = user_path(path)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise UserError(f"{path}: weights are written as .safetensors, .pt or .pth.")
    tensors = _copies(tensors)
    if card is not None:
        card = {"format": FORMAT, **json.loads(json.dumps(card))}  # as it will be read
        card["digest"] = digest([card, tensors])
    with atomic_write(path) as temporary:
        try:
            if path.suffix == ".safetensors":
                metadata = {"format": "pt", "resnetlab": json.dumps(card)}
                safetensors.torch.save_file(tensors, temporary, metadata)
            else:
                torch.save(tensors if card is None else {"model": tensors, **card}, temporary)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise not_whole(temporary, error) from error
    return path


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each tensor with memory of its own in plain order."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
