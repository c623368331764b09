"""A file turned into tensors by its own names; what they mean is for ``foreign``.

Only tensors and plain values are ever unpickled (``weights_only=True``): no file can run code.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.files import check_zip, reading
from resnetlab.weights import mindspore
from resnetlab.weights.card import NAMES, read_card

_CONTAINERS = ["model", "state_dict", "model_state_dict", "model_state", "net", "network"]
_CONTAINERS += ["params", "weights", "state_dict_ema", "model_ema", "ema"]
"""Entries under which programs save the tensors, the likelier first."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str], str]:
    """Tensors of a file by its own names, its card, notes, and its kind in plain words.

    The content decides how it is read, not the ending. UserError if it is damaged, of no kind
    known here, or wants to run code.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(16)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        return _read_torch(path)
    if head[:1] == b"\n":
        return mindspore.read_checkpoint(path), {}, [], "MindSpore checkpoint"
    if head.startswith(b"version https://"):
        raise UserError(f"{path} is only Git LFS's pointer to the weights; run git lfs pull.")
    page = head.lstrip()[:1] == b"<"
    what = "empty" if not head else "a web page" if page else "of another kind"
    raise UserError(
        f"{path} is {what}, not a weights file (.safetensors, PyTorch's .pth or .pt, MindSpore's "
        ".ckpt); fetch it again."
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str], str]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is a damaged safetensors file ({error}).") from error
    card = read_card(json.loads(metadata["resnetlab"])) if "resnetlab" in metadata else {}
    return tensors, card, [], "resnetlab file" if card else "safetensors file"


def _read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str], str]:
    try:
        if zipfile.is_zipfile(path):
            check_zip(path)
        with warnings.catch_warnings():  # of other pickle protocols and of TorchScript
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{path} is refused: beside tensors it holds pickled objects "
            f"({reason[1] if reason else 'of an unknown kind'}), and unpickling them can run code; "
            "if you trust its author, convert it where it was made, or with: import torch; "
            f"m = torch.load({path.name!r}, weights_only=False); torch.save(m.state_dict() if "
            "hasattr(m, 'state_dict') else m['state_dict'], 'weights.pth')"
        ) from error
    except (
        *(RuntimeError, EOFError, LookupError, UnicodeDecodeError),
        *(struct.error, zipfile.BadZipFile),
    ) as error:
        raise UserError(
            f"{path} cannot be read as PyTorch weights ({str(error)[:100]}): it is damaged or not "
            "a state dict; save one anew with torch.save(model.state_dict(), file)."
        ) from error
    notes: list[str] = []
    card: dict[str, Any] = {}
    while isinstance(content, Mapping):
        names = [name for name in _CONTAINERS if isinstance(content.get(name), Mapping)]
        if isinstance(content.get("architecture"), Mapping):
            card = read_card(content)
        tensors = {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}
        kept = names[:1] or list(tensors)
        known = NAMES if card else ()
        ignored = [str(name) for name in content if name not in kept and name not in known]
        if names and not card:
            notes.append(f"taken from its entry {names[0]!r}")
        if ignored:
            more = " and more" if len(ignored) > 8 else ""
            notes.append(f"ignored its entries {', '.join(ignored[:8])}{more}")
        if not names:
            if tensors:
                return tensors, card, notes, "resnetlab file" if card else "PyTorch checkpoint"
            break
        content = content[names[0]]
    raise UserError(f"{path} holds no tensors by name; save a model's state_dict().")
