"""Weights in and out: bundled ones, runs, other people's files.

``read_weights`` says what a source holds; ``load_weights`` makes a network of it. Nothing is
unpickled that could run code, and nothing is ever half-loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from resnetlab.errors import UserError
from resnetlab.files import atomic_write
from resnetlab.models.adaptation import adapt
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.weights import foreign, locate, mindspore, recognition

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that every ImageNet network is used with."""

OFTEN_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""What many CIFAR-10 projects train with; the deviation is not the data's, but it is theirs."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a source turned out to hold."""

    architecture: Architecture
    state: dict[str, Tensor]
    """every tensor of the network, by our names and in our order, fp32, on the CPU"""
    mean: tuple[float, ...] | None = None
    """of the normalisation that the network was trained with, per input channel; None: unknown"""
    std: tuple[float, ...] | None = None
    """its standard deviation, likewise"""
    image_size: int | None = None
    """pixels of the images that it was trained for; None: unknown"""
    classes: tuple[str, ...] | None = None
    """their names in the order of the outputs; None: unknown"""
    origin: str
    """plain words: where it comes from and what it is"""
    notes: tuple[str, ...] = ()
    """what was renamed, assumed, filled in or left out"""
    dataset: str | None = None
    """what it was trained on; None: unknown"""
    metrics: dict[str, Any] = field(default_factory=dict)
    """validation metrics of these weights, if the file has any"""
    recipe: dict[str, Any] = field(default_factory=dict)
    """how they were trained, if the file says so"""

    def build(self) -> ResNet:
        """The network with these weights (a copy of them), in evaluation mode."""
        with torch.device("meta"):  # no time spent on an initialisation that is overwritten
            model = ResNet(self.architecture)
        model = model.to_empty(device="cpu")
        model.load_state_dict(self.state)
        return model.eval()


def read_weights(
    source: str | Path, *, architecture: Architecture | None = None, allow_mismatch: bool = False
) -> Weights:
    """What ``source`` holds, completely, or UserError with one sentence.

    ``source``: a bundled name; a run folder or its best.pt; a local file of any layout in
    ``foreign`` (.safetensors, PyTorch's formats since 2018, MindSpore's .ckpt; the content counts,
    not the ending); a torchvision weight ("ResNet50_Weights.IMAGENET1K_V2", "resnet50:DEFAULT"); a
    Hugging Face repository ("timm/resnet50.a1_in1k", "hf-hub:user/repo"); an https URL.

    ``architecture``: decides what tensors cannot tell (``recognition.assumptions``); the number of
    classes and input channels are the file's all the same. ``allow_mismatch``: see
    ``foreign.complete``.
    """
    path, known, kind = locate.locate(source)
    tensors, card, notes, layout = locate.read_tensors(path)
    card |= known
    try:
        recorded = Architecture.from_dict(card["architecture"]) if "architecture" in card else None
        state, renames = foreign.translate(tensors)
        found = recorded or recognition.read_architecture(state)
        chosen = found
        if architecture:
            head = found if recorded or "fc.weight" in state else architecture
            chosen = replace(
                architecture, num_classes=head.num_classes, in_channels=found.in_channels
            )
        if not allow_mismatch:
            _check_same(found, chosen, exactly=recorded is not None)
        state, completions = foreign.complete(state, chosen, allow_mismatch=allow_mismatch)
        classes = card.get("classes")
        if classes and len(classes) != chosen.num_classes:
            raise UserError(
                f"there are {len(classes)} names of classes and {chosen.num_classes} outputs."
            )
    except (UserError, TypeError) as error:
        raise UserError(f"{source}: {error}") from error
    notes = [*notes, *renames, *completions]
    if not (recorded or architecture):
        notes += recognition.assumptions(chosen)
    for prefix, wrapper in (("module.", "DataParallel"), ("_orig_mod.", "torch.compile")):
        if all(name.startswith(prefix) for name in tensors):
            layout = f"{wrapper} checkpoint"
    if not ("mean" in card and "std" in card):
        usual, note = _usual_preparation(chosen, tensors)
        card |= usual
        notes.append(note)
    if foreign.is_mindspore(tensors):
        layout = "MindSpore checkpoint"
        notes.append(mindspore.padding_note(chosen))
        if "image_size" in card:  # where either padding computes the same
            card["image_size"] += card["image_size"] % chosen.total_stride == 0
    return Weights(
        architecture=chosen,
        state=state,
        mean=tuple(card["mean"]) if card.get("mean") else None,
        std=tuple(card["std"]) if card.get("std") else None,
        image_size=card.get("image_size"),
        classes=tuple(classes) if classes else None,
        origin=f"{kind or layout}, {recognition.describe(chosen)}",
        notes=tuple(notes),
        dataset=card.get("dataset"),
        metrics=card.get("metrics") or {},
        recipe=card.get("recipe") or {},
    )


def _check_same(found: Architecture, wanted: Architecture, *, exactly: bool) -> None:
    """UserError if a file has not the wanted network; ``exactly``: more is known than shapes."""
    if found == wanted:
        return
    if not exactly and foreign.expected_shapes(found) == foreign.expected_shapes(wanted):
        return
    raise UserError(
        f"it is {recognition.describe(found)}, not the network asked for, which differs in "
        f"{', '.join(_differences(found, wanted))}; name the right architecture."
    )


def _differences(one: Architecture, other: Architecture) -> list[str]:
    """Fields in which the second record differs from the first, with the second's values."""
    pairs = [(f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(Architecture)]
    return [f"{name} {value}" for name, first, value in pairs if first != value]


def _usual_preparation(
    architecture: Architecture, names: Iterable[str]
) -> tuple[dict[str, Any], str]:
    """Mean, deviation and image size that networks of a layout are known to have, and a note."""
    a, names = architecture, list(names)
    if a.in_channels == 3 and a.stem != "cifar" and a.num_classes == 1000:
        (mean, std), size, whose = IMAGENET, 224, "ImageNet networks"
    elif _is_small(a, "A") and any("linear." in name for name in names):
        (mean, std), size, whose = IMAGENET, 32, "the public CIFAR-10 networks of this layout"
    elif _is_small(a, "B") and any(".downsample.0." in name for name in names):
        (mean, std), size, whose = OFTEN_CIFAR10, 32, "the public CIFAR-10 networks of this layout"
    else:
        return {}, "the normalisation of its images is not recorded and not known"
    note = f"normalisation not recorded: assumed that of {whose}, mean {mean}, deviation {std}"
    return {"mean": mean, "std": std, "image_size": size}, note


def _is_small(architecture: Architecture, shortcut: str) -> bool:
    """Whether it is one of the paper's CIFAR-10 networks, of any depth, with this shortcut."""
    small = get_architecture("resnet20", shortcut=shortcut)
    return len(architecture.depths) == 3 and architecture == replace(
        small, depths=architecture.depths
    )


def load_weights(
    model_or_name: ResNet | str,
    source: str | Path | Weights,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_mode: Literal["average", "repeat"] = "average",
    allow_mismatch: bool = False,
) -> ResNet:
    """A network with the weights of ``source`` (see ``read_weights``), in evaluation mode.

    A name makes a new network; a network is filled in place, and must then have the classes and
    input channels of the source or those asked for here. ``num_classes`` unlike the source's gives
    a fresh classifier, ``in_channels`` unlike the source's other input channels (see ``adapt``).
    UserError, with nothing changed, if the two do not belong together.
    """
    if isinstance(model_or_name, str):
        architecture = get_architecture(model_or_name)
    else:
        architecture = model_or_name.architecture
    if not isinstance(source, Weights):
        source = read_weights(source, architecture=architecture, allow_mismatch=allow_mismatch)
    sizes = {
        "num_classes": source.architecture.num_classes,
        "in_channels": source.architecture.in_channels,
    }
    _check_same(source.architecture, replace(architecture, **sizes), exactly=True)
    model = source.build()
    adapt(model, num_classes=num_classes, in_channels=in_channels, mode=input_mode)
    if isinstance(model_or_name, str):
        return model
    for name in sizes:
        has, gets = getattr(architecture, name), getattr(model.architecture, name)
        if has != gets:
            raise UserError(
                f"the weights have {name} {gets} and the network {has}; pass {name}={has} to adapt "
                "the weights, or make the network with the other number."
            )
    model_or_name.load_state_dict(model.state_dict())
    return model_or_name.eval()


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
    if differences := _differences(theirs, a):
        raise UserError(f"{layout} has no ResNet of {', '.join(differences)}; leave layout out.")
    return _tensors(model)


def save_weights(
    model: ResNet,
    path: str | Path,
    *,
    layout: Literal["torchvision", "timm"] | None = None,
    **card: Any,
) -> Path:
    """Write ``path`` (.safetensors, or .pt/.pth) whole or not at all, and return it.

    ``card``: any of classes, mean, std, image_size, dataset, metrics, recipe, as plain values; they
    and the architecture go into the file, from which ``read_weights`` takes them. A .pth with a
    ``layout`` is a bare state dict instead, as that library's users expect.
    """
    path = Path(path)
    if unknown := [name for name in card if name not in locate.CARD[1:]]:
        has = ", ".join(locate.CARD[1:])
        raise UserError(f"a weights file has no field {unknown[0]!r}; it may have {has}.")
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise UserError(f"{path}: weights are written as .safetensors, .pt or .pth.")
    tensors = export_state_dict(model, layout) if layout else _tensors(model)
    card = {"architecture": model.architecture.to_dict(), **card}
    with atomic_write(path) as temporary:
        try:
            if path.suffix == ".safetensors":
                metadata = {"format": "pt", "resnetlab": json.dumps(card)}
                safetensors.torch.save_file(tensors, temporary, metadata)
            else:
                torch.save(tensors if layout else {"model": tensors, **card}, temporary)
        except (RuntimeError, safetensors.SafetensorError) as error:
            # Either library has an error of its own for a disk that is full.
            raise OSError(None, f"the file could not be written whole ({error})") from error
    return path


def _tensors(model: ResNet) -> dict[str, Tensor]:
    """The state dict on the CPU, each tensor with memory of its own in plain order."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
