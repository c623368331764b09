"""What is usual for networks of a layout, where their files do not record it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.summary import default_image_size
from resnetlab.preprocessing import Preprocessing
from resnetlab.weights.foreign import is_mindspore

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that every ImageNet network is used with."""

OFTEN_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""What many CIFAR-10 projects train with; the deviation is not the data's, but it is theirs."""

UNKNOWN = (
    "the normalisation of its images is not recorded: taken for ImageNet's, or in evaluation for "
    "the data set's"
)
"""The note where nothing is recorded and nothing is usual."""


def complete_preprocessing(
    architecture: Architecture, recorded: Mapping[str, Any], names: Iterable[str]
) -> tuple[Preprocessing, str | None]:
    """What a source records, filled up with what is usual for its layout.

    Args:
        architecture: the network.
        recorded: fields of ``Preprocessing``, as far as the source has them.
        names: of the tensors, by the source.

    Returns:
        The record and a note, which is ``UNKNOWN`` if the normalisation is a guess and None if it
        is recorded.
    """
    note, names = None, list(names)
    known = {name: value for name, value in recorded.items() if value is not None}
    if not {"mean", "std"} <= known.keys():
        usual, note = _usual_preprocessing(architecture, names)
        known = usual | known
    if is_mindspore(names) and known.get("size", 1) % architecture.total_stride == 0:
        known["size"] += 1  # where either padding computes the same
        if known.get("resize") is not None:
            known["resize"] = max(known["resize"], known["size"])
    channels = architecture.in_channels
    if note == UNKNOWN:
        mean, std = IMAGENET if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
        known |= {"mean": mean, "std": std}
    known.setdefault("size", default_image_size(architecture))
    preprocessing = Preprocessing(**known)
    if preprocessing.channels != channels:
        raise UserError(
            f"its normalisation is of {preprocessing.channels} channels and the network takes "
            f"{channels}."
        )
    return preprocessing, note


def _usual_preprocessing(
    architecture: Architecture, names: Iterable[str]
) -> tuple[dict[str, Any], str]:
    """Fields of ``Preprocessing`` that networks of a layout are known to have, and a note."""
    a, names, resize = architecture, list(names), None
    if a.in_channels == 3 and a.stem_stride == 4 and a.num_classes == 1000:
        (mean, std), size, resize, whose = IMAGENET, 224, 256, "ImageNet networks"
    elif _is_small(a, "A") and any("linear." in name for name in names):
        (mean, std), size, whose = IMAGENET, 32, "the public CIFAR-10 networks of this layout"
    elif _is_small(a, "B") and any(".downsample.0." in name for name in names):
        (mean, std), size, whose = OFTEN_CIFAR10, 32, "the public CIFAR-10 networks of this layout"
    else:
        return {}, UNKNOWN
    note = f"normalisation not recorded: assumed that of {whose}, mean {mean}, deviation {std}"
    return {"mean": mean, "std": std, "size": size, "resize": resize}, note


def _is_small(architecture: Architecture, shortcut: str) -> bool:
    """Whether it is one of the paper's CIFAR-10 networks, of any depth, with this shortcut."""
    small = get_architecture("resnet20", shortcut=shortcut)
    return len(architecture.depths) == 3 and architecture == replace(
        small, depths=architecture.depths
    )


def normalisation_beside(beside: Mapping[str, Tensor], channels: int) -> dict[str, Any]:
    """Mean and deviation out of buffers of those names beside the network, if they are such."""
    found = {}
    for name, value in beside.items():
        last = name.rpartition(".")[2]
        if last in ("mean", "std") and value.numel() == channels and value.isfinite().all():
            found[last] = tuple(value.flatten().tolist())
    if found.keys() != {"mean", "std"} or min(found["std"]) <= 0:
        return {}
    scale = 255 if max(found["std"]) > 1 else 1  # of pixels from 0 to 255
    return {name: tuple(x / scale for x in values) for name, values in found.items()}
