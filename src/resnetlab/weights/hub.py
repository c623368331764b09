"""Weights that lie online: an https address, torchvision's, a Hugging Face repository.

Each is fetched once and then taken from the cache of the library that it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from resnetlab.data.download import download as fetch_files
from resnetlab.data.download import name_of
from resnetlab.errors import UserError
from resnetlab.records import did_you_mean

_TIMEOUT = 8.0
"""seconds without an answer after which a host counts as out of reach"""


def download(url: str) -> Path:
    """The file behind an https address, from PyTorch's cache if it is there.

    A digest in its name (torchvision's) is checked. UserError where it cannot be fetched.
    """
    name = name_of(url)
    digest = re.search(r"-([0-9a-f]{8,})\.", name)
    # Other addresses may end in the same name.
    unique = name if digest else f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / unique
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fetch_files([url], Path(folder), longest=math.inf)
            fetched = Path(folder) / name
            if digest and not _sha256(fetched).startswith(digest[1]):
                raise OSError("its SHA-256 is not the one in its name")
            fetched.replace(path)
    except (OSError, HTTPException) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(
            f"{url} cannot be fetched ({reason}); without internet, give a local file instead."
        ) from error
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def from_torchvision(model: str, member: str) -> tuple[Path, dict[str, Any], str]:
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
    card = {
        "classes": weight.meta["categories"],
        "preprocessing": preprocessing_of_torchvision(weight.transforms()),
    }
    return download(weight.url), card, f"torchvision {weight}"


def torchvision_answers(model: str, member: str) -> bool:
    """Whether a torchvision weight is in PyTorch's cache, or its host answers at once."""
    from torchvision.models import get_model_weights

    url = get_model_weights(model)[member].url
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name_of(url)
    return cached.is_file() or _reachable(url, timeout=3.0)


def from_hub(name: str) -> tuple[Path, dict[str, Any], str]:
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

    found = read_repository(name, get)
    if found is None and offline:
        raise UserError(
            f"{name} cannot be fetched: {constants.ENDPOINT} is out of reach and the cache does "
            "not hold it; without internet, give a local file instead."
        )
    if found is None:
        raise UserError(f"{name} has neither {' nor '.join(WEIGHTS)}.")
    return (*found, f"{name} of the Hugging Face hub")


WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of a repository that hold a network, the better first."""


def read_repository(
    name: str, get: Callable[[str], Path | None]
) -> tuple[Path, dict[str, Any]] | None:
    """The weights of a repository of timm or transformers and its card; None without weights.

    ``get`` gives the path of one of its files, or None. config.json and preprocessor_config.json
    give classes and preprocessing, and tell networks apart that tensors cannot. UserError for a
    network that we do not have.
    """
    path = next(filter(None, map(get, WEIGHTS)), None)
    if path is None:
        return None
    config, processor = (
        _read_json(get(f"{file}.json")) for file in ("config", "preprocessor_config")
    )
    architecture = str(config.get("architecture", ""))
    if re.match("resnet(aa|blur)", architecture):
        raise UserError(f"{name} is a {architecture}, whose anti-aliased strides we do not have.")
    if config.get("downsample_in_bottleneck") or config.get("downsample_in_first_stage"):
        raise UserError(f"{name} has its strides where its tensors do not tell and we do not.")
    fields = preprocessing_of_timm(config.get("pretrained_cfg") or {})
    fields |= preprocessing_of_transformers(processor)
    # Without any, what the weights themselves record stands.
    card: dict[str, Any] = {"preprocessing": fields} if fields else {}
    labels = config.get("id2label") or {}
    if names := config.get("label_names") or [labels[key] for key in sorted(labels, key=int)]:
        card["classes"] = names
    return path, card


def _read_json(path: Path | None) -> dict[str, Any]:
    """A file's dictionary; empty without a file. UserError if it is damaged."""
    if path is None:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}).") from error
    return values if isinstance(values, dict) else {}


def preprocessing_of_torchvision(transforms: Any) -> dict[str, Any]:
    """Fields of ``Preprocessing`` out of a weight's ``transforms()``, ImageClassification."""
    return {
        "mean": transforms.mean,
        "std": transforms.std,
        "size": transforms.crop_size[0],
        "resize": transforms.resize_size[0],
        "interpolation": transforms.interpolation.value,
    }


def preprocessing_of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``Preprocessing`` out of timm's pretrained_cfg, as far as it has them.

    What timm's ``resolve_data_config`` fills in is filled in here: crop_pct 0.875, bicubic.
    """
    fields = {name: config[name] for name in ("mean", "std") if name in config}
    if "input_size" not in config:
        return fields
    size = config["input_size"][-1]
    modes = {"center": "center", "squash": "squash", "border": "letterbox"}
    return fields | {
        "size": size,
        "resize": math.floor(size / (config.get("crop_pct") or 0.875)),
        "crop": modes[config.get("crop_mode") or "center"],
        "interpolation": config.get("interpolation") or "bicubic",
    }


def preprocessing_of_transformers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``Preprocessing`` out of transformers' preprocessor_config.json, if it has them.

    Below 384 pixels its ConvNextImageProcessor, which ResNets use, resizes the shorter side to
    size / crop_pct and cuts the centre; from there on it squashes the image.
    """
    if not {"image_mean", "image_std"} <= config.keys():
        return {}
    fields: dict[str, Any] = {"mean": config["image_mean"], "std": config["image_std"]}
    size = config.get("size")
    size = next(iter(size.values()), None) if isinstance(size, dict) else size
    if not isinstance(size, int):
        return fields
    filters = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
    squash = size >= 384
    return fields | {
        "size": size,
        "resize": size if squash else int(size / config.get("crop_pct", 0.875)),
        "crop": "squash" if squash else "center",
        "interpolation": filters[config.get("resample", 3)],
    }


def _reachable(address: str, timeout: float = _TIMEOUT) -> bool:
    """Whether a host answers at all; huggingface_hub itself would retry for half a minute."""
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
