"""A source's name turned into a file, and a file into tensors; what they mean is for ``foreign``.

Only tensors and plain values are ever unpickled (``weights_only=True``): no file can run code.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import socket
import struct
import sys
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import safetensors
import torch
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.files import check_zip
from resnetlab.models.architecture import ARCHITECTURES
from resnetlab.records import did_you_mean
from resnetlab.weights import mindspore

BUNDLED = Path(__file__).parent / "bundled"
"""Holds NAME.safetensors, each with its model card NAME.json (``CARD`` and more)."""

CARD = ("architecture", "classes", "mean", "std", "image_size", "dataset", "metrics", "recipe")
"""What our own files say of the network beside its tensors, as plain values."""

_CONTAINERS = ["model", "state_dict", "model_state_dict", "model_state", "net", "network"]
_CONTAINERS += ["params", "weights", "state_dict_ema", "model_ema", "ema"]
"""Entries under which programs save the tensors, the likelier first."""

_TIMEOUT = 8.0
"""seconds without an answer after which a host counts as out of reach"""


def locate(source: str | Path) -> tuple[Path, dict[str, Any], str]:
    """The file of a source (fetched if need be), what is known of it, and its kind in plain words.

    See ``pretrained.read_weights`` for what a source may be. UserError if there is none such, or
    if it lies online and cannot be reached.
    """
    path, text = Path(source), str(source)
    if path.is_dir():
        if not (path / "best.pt").is_file():
            raise UserError(f"{path} is a folder without a best.pt; give a run or a file.")
        return path / "best.pt", {}, f"run {path.resolve().name}"
    if path.is_file():
        return path, {}, ""
    if text in bundled_names():
        path = BUNDLED / f"{text}.safetensors"
        return path, json.loads(path.with_suffix(".json").read_text()), f"bundled {text}"
    if text.startswith("https://"):
        return _download(text), {}, f"file from {urlsplit(text).hostname}"
    if text.startswith(("hf-hub:", "hf_hub:", "timm/")):
        return _from_hub(re.sub("^hf.hub:", "", text))
    if match := re.fullmatch(r"(\w+)_Weights\.(\w+)|(\w+):(\w+)", text):
        return _from_torchvision(match[1] or match[3], match[2] or match[4])
    hint = f"; do you mean {text}:DEFAULT, torchvision's?" if text in ARCHITECTURES else "."
    bundled = ", ".join(bundled_names()) or "none in this version"
    raise UserError(
        f"there is no file, run or bundled network {text!r} (bundled: {bundled}), and it is "
        "neither a torchvision weight (ResNet50_Weights.DEFAULT), nor a hub name (timm/NAME, "
        f"hf-hub:USER/REPO), nor an https address{hint}"
    )


def bundled_names() -> list[str]:
    """Names of the networks that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str], str]:
    """Tensors of a file by its own names, its ``CARD``, notes, and its kind in plain words.

    The content decides how it is read, not the ending. UserError if it is damaged, of no kind
    known here, or wants to run code.
    """
    with path.open("rb") as file:
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
    card = json.loads(metadata["resnetlab"]) if "resnetlab" in metadata else {}
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
            card = {name: content[name] for name in CARD if name in content}
        tensors = {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}
        kept = names[:1] or list(tensors)
        ignored = [str(name) for name in content if name not in kept and name not in card]
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


def _download(url: str) -> Path:
    """The file behind an https address, from PyTorch's cache if it is there."""
    name = Path(urlsplit(url).path).name
    digest = re.search(r"-([0-9a-f]{8,})\.", name)
    if not digest:  # other addresses may end in the same name
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)  # download_url_to_file takes none
    try:
        torch.hub.download_url_to_file(
            url, str(path), digest[1] if digest else None, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{url} cannot be fetched ({error}); without internet, give a local file instead."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path


def _from_torchvision(model: str, member: str) -> tuple[Path, dict[str, Any], str]:
    """``model``: resnet50 or ResNet50 (of ResNet50_Weights)."""
    from torchvision.models import get_model_weights, list_models

    try:
        weights = get_model_weights(model.lower())
    except ValueError as error:
        near = did_you_mean(model.lower(), list_models(include="*resne*"))
        raise UserError(f"torchvision has no model {model.lower()!r}{near}") from error
    if member not in weights.__members__:
        raise UserError(f"{weights.__name__} are: {', '.join(weights.__members__)}, not {member}.")
    weight = weights[member]
    transforms = weight.transforms()
    card = {
        "classes": weight.meta["categories"],
        "mean": transforms.mean,
        "std": transforms.std,
        "image_size": transforms.crop_size[0],
    }
    return _download(weight.url), card, f"torchvision {weight}"


def _from_hub(name: str) -> tuple[Path, dict[str, Any], str]:
    """The weights of a Hugging Face repository, of timm or of transformers.

    Its config.json gives classes and normalisation, and tells networks apart that tensors cannot.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    offline = not _reachable(constants.ENDPOINT)

    def get(filename: str) -> Path | None:
        try:
            return Path(hf_hub_download(name, filename, local_files_only=offline))
        except (HfHubHTTPError, HFValidationError, OSError, EntryNotFoundError) as error:
            lost = isinstance(error, LocalEntryNotFoundError)  # not in the cache, and no answer
            if isinstance(error, EntryNotFoundError) and (offline or not lost):
                return None
            raise UserError(f"{name} cannot be fetched: {str(error).splitlines()[0]}") from error

    path = get("model.safetensors") or get("pytorch_model.bin")
    if path is None and offline:
        raise UserError(
            f"{name} cannot be fetched: {constants.ENDPOINT} is out of reach and the cache does "
            "not hold it; without internet, give a local file instead."
        )
    if path is None:
        raise UserError(f"{name} has neither model.safetensors nor pytorch_model.bin.")
    config = get("config.json")
    values = json.loads(config.read_text()) if config else {}
    architecture = str(values.get("architecture", ""))
    if re.match("resnet(aa|blur)", architecture):
        raise UserError(f"{name} is a {architecture}, whose anti-aliased strides we do not have.")
    if values.get("downsample_in_bottleneck") or values.get("downsample_in_first_stage"):
        raise UserError(f"{name} has its strides where its tensors do not tell and we do not.")
    trained = values.get("pretrained_cfg", {})
    card = {field: trained[field] for field in ("mean", "std") if field in trained}
    if "input_size" in trained:
        card["image_size"] = trained["input_size"][-1]
    if "label_names" in values:
        card["classes"] = values["label_names"]
    return path, card, f"{name} of the Hugging Face hub"


def _reachable(address: str) -> bool:
    """Whether a host answers at all; huggingface_hub itself would retry for half a minute."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, method="HEAD"), timeout=_TIMEOUT
        ):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
