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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from resnetlab.errors import UserError, reason_of
from resnetlab.files import check_zip, reading
from resnetlab.weights import mindspore
from resnetlab.weights.card import NAMES, read_card
from resnetlab.weights.digest import digest

_CONTAINERS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "params",
    "weights",
    "state_dict_ema",
    "model_ema",
    "ema",
)
"""Entries under which programs save the tensors, the likelier first."""

_CONVERSION = (
    "python -c \"import torch; d = lambda m: m.state_dict() if hasattr(m, 'state_dict') else m; "
    "m = d(torch.load({name!r}, weights_only=False)); "
    "torch.save(next((d(v) for v in m.values() if isinstance(d(v), dict) and "
    "any(map(torch.is_tensor, d(v).values()))), m), 'weights.pth')\""
)
"""What a user runs who trusts a file that only unpickles with code."""

Read = tuple[dict[str, Tensor], dict[str, Any], list[str], str]
"""Tensors by the file's own names, its card, notes, and its kind in plain words."""


def read_tensors(path: Path) -> Read:
    """Tensors of a file by its own names, its card, notes, and its kind in plain words.

    The content decides how it is read, not the ending. UserError if it is damaged, of no kind
    known here, or wants to run code.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(16)
    if head[:1] == b"\n":
        return mindspore.read_checkpoint(path), {}, [], "MindSpore checkpoint"
    try:
        return _read(path, head)
    except UserError as error:  # a predicate, of which the file is the subject
        raise UserError(f"{path} {error}") from error


def _read(path: Path, head: bytes) -> Read:
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        return _find_tensors(_unpickled(path))
    if head.startswith(b"version https://"):
        raise UserError("is only Git LFS's pointer to the weights; run git lfs pull.")
    page = head.lstrip()[:1] == b"<"
    what = "empty" if not head else "a web page" if page else "of another kind"
    raise UserError(
        f"is {what}, not a weights file (.safetensors, PyTorch's .pth or .pt, MindSpore's "
        ".ckpt); fetch it again."
    )


def _read_safetensors(path: Path) -> Read:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"is a damaged safetensors file ({error}).") from error
    if "resnetlab" not in metadata:
        return tensors, {}, [], "safetensors file"
    try:
        card = json.loads(metadata["resnetlab"])
    except ValueError as error:
        raise UserError(f"has damaged metadata ({error}).") from error
    return tensors, _checked_card(card, tensors), [], "resnetlab file"


def _unpickled(path: Path) -> Any:
    """What torch.save wrote; UserError if it is damaged or holds more than tensors and values."""
    try:
        if zipfile.is_zipfile(path):
            check_zip(path)
        # A file object, as torch.load would go by the ending of a path.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore", UserWarning)  # other pickle protocols, TorchScript
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"is refused: beside tensors it holds pickled objects "
            f"({reason[1] if reason else 'of an unknown kind'}), and unpickling them can run code; "
            "if you trust its author, convert it where it was made, or with: "
            + _CONVERSION.format(name=str(path))
        ) from error
    except (
        RuntimeError,
        EOFError,
        LookupError,
        OSError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
    ) as error:
        why = reason_of(error).partition(". ")[0]  # what torch adds is for its own authors
        raise UserError(
            f"cannot be read as PyTorch weights ({why[:100]}): it is damaged or not "
            "a state dict; save one anew with torch.save(model.state_dict(), file)."
        ) from error


def _find_tensors(content: Any) -> Read:
    """The mapping of names to tensors within what was unpickled."""
    if isinstance(content, Mapping) and isinstance(content.get("architecture"), Mapping):
        tensors = _tensors(content["model"]) if isinstance(content.get("model"), Mapping) else {}
        if tensors:
            others = [str(name) for name in content if name not in (*NAMES, "model")]
            return tensors, _checked_card(content, tensors), _ignored(others), "resnetlab file"
    candidates = dict(_candidates(content))
    if not candidates:
        entries = f"; its entries: {_describe(content)}" if isinstance(content, Mapping) else ""
        raise UserError(f"holds no tensors by name{entries}; save a model's state_dict().")
    known = [place for place in candidates if place == () or place[-1] in _CONTAINERS]
    if not known and len(candidates) > 1:
        places = ", ".join(".".join(place) for place in candidates)
        raise UserError(f"holds several sets of tensors: {places}; save one by itself.")
    order = {name: number for number, name in enumerate(_CONTAINERS)}
    place = min(known or candidates, key=lambda place: [order.get(name, 99) for name in place])
    notes = [f"taken from its entry {'.'.join(place)!r}"] if place else []
    outer = content
    others: list[str] = []
    for name in place:
        if isinstance(outer, Mapping):
            others += [str(other) for other in outer if str(other) != name]
            outer = next(value for other, value in outer.items() if str(other) == name)
    if not place and isinstance(content, Mapping):
        others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    return candidates[place], {}, notes + _ignored(others), "PyTorch checkpoint"


def _candidates(
    content: Any, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Where mappings of names to tensors lie, up to three levels deep."""
    if isinstance(content, list | tuple):  # as (state dict, epoch): its mappings alone
        content = {str(i): value for i, value in enumerate(content) if isinstance(value, Mapping)}
    if not isinstance(content, Mapping) or len(place) > 3:
        return
    inner = [value for value in content.values() if isinstance(value, Mapping | list | tuple)]
    tensors = _tensors(content)
    if any(value.dim() == 4 for value in tensors.values()):  # a network with convolutions
        yield place, tensors
        return
    if tensors and not inner:
        yield place, tensors
    for name, value in content.items():
        yield from _candidates(value, (*place, str(name)))


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}


def _ignored(names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"ignored its entries {', '.join(names[:8])}{' and more' if len(names) > 8 else ''}"]


def _describe(content: Mapping[Any, Any]) -> str:
    entries = [f"{name} ({type(value).__name__})" for name, value in content.items()]
    return ", ".join(entries[:8]) + (" and more" if len(entries) > 8 else "")


def _checked_card(content: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The card of a file of ours; UserError if the file states another digest than it has."""
    if not isinstance(content, Mapping):
        raise UserError("is damaged: its card is no dictionary.")
    card = read_card(content)
    rest = {name: value for name, value in content.items() if name not in ("digest", "model")}
    if "digest" in content and digest([rest, tensors]) != content["digest"]:
        raise UserError("is damaged: its SHA-256 is not the one that it states.")
    return card
