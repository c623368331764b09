"""Where in an image a network sees what it predicts (Grad-CAM, arXiv:1610.02391)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnetlab.data.find import find_images
from resnetlab.data.images import ImageSource, normalize, read_image
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.inference.backends import TorchBackend
from resnetlab.inference.choice import open_backend
from resnetlab.inference.exported import Exported
from resnetlab.inference.network import load_network
from resnetlab.models.architecture import Architecture
from resnetlab.models.resnet import ResNet
from resnetlab.records import did_you_mean
from resnetlab.weights.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One image, and for some classes where the network sees them."""

    title: str
    """the name of its file, or what else there is to say of it"""
    pixels: Tensor
    """as the network sees them, uint8 (channels, size, size)"""
    top: tuple[tuple[str, float], ...]
    """(class, probability in %) of each map, likeliest first or as asked for"""
    maps: Tensor
    """fp32 (classes, h, w), not negative: how much each place speaks for the class"""
    stage: str
    """whose feature maps they are of"""


def heat_maps(
    model: ResNet, images: Tensor, classes: Tensor, *, stage: str | None = None
) -> Tensor:
    """Grad-CAM: a stage's feature maps, weighted by what each does for the class, where positive.

    Args:
        model: In eval mode, on the CPU.
        images: Normalised, (n, channels, h, w).
        classes: int64 (n,), the number of a class for each image.
        stage: One of ``model.stage_names``; the last one unless given.

    Returns:
        (n, h', w') of the size of the stage's maps, fp32, not negative.
    """
    stage = stage or model.stage_names[-1]
    model.check_input(images)
    maps = x = images
    with torch.enable_grad():
        for name, module in model.named_children():
            x = module(x)
            if name == stage:  # what comes before needs no gradient
                maps = x = x.detach().requires_grad_()
        scores = x.gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(scores, maps)
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * maps).sum(1).relu().detach()


def stage_for(model: ResNet, size: int, asked: str | None = None) -> tuple[str, str | None]:
    """The stage to take for images of ``size`` pixels, and a sentence if it is not the last.

    A map of 1x1 has no places; then it is the last stage with a larger one, which every network
    has at its smallest size. UserError for a stage that there is not, or whose map is of 1x1.
    """
    names = model.stage_names
    if asked is not None and asked not in names:
        raise UserError(f"there is no `stage` {asked!r}{did_you_mean(asked, names)}")
    blank = torch.zeros(1, model.architecture.in_channels, size, size)
    with torch.inference_mode():
        maps = model.forward_stages(blank)
    sides = {name: max(x.shape[2:]) for name, x in zip(names, maps, strict=True)}
    large = [name for name in names if sides[name] > 1]
    if asked is not None and sides[asked] == 1:
        raise UserError(f"`stage` {asked} has maps of 1 x 1, without places; take {large[-1]}.")
    if asked is not None or large[-1] == names[-1]:
        return asked or names[-1], None
    note = f"the maps of {names[-1]} are of 1 x 1, without places; these are of {large[-1]}"
    return large[-1], note


@torch_defaults()
def explain_images(
    checkpoint: Checkpoint | Exported,
    images: Iterable[ImageSource],
    *,
    classes: Sequence[str] = (),
    top: int = 3,
    stage: str | None = None,
) -> tuple[list[Explanation], str | None]:
    """For each image where the network sees its likeliest classes, or the ``classes`` named.

    Returns the explanations and a sentence if another stage than the last was taken. UserError for
    an image that cannot be read, a class or a stage that there is not, and of an exported file
    without class-activation maps.
    """
    if top < 1:
        raise UserError(f"`top` must be at least 1, not {top}.")
    numbers = [_class_number(name, checkpoint.classes) for name in classes]
    preprocessing = checkpoint.preprocessing
    if isinstance(checkpoint, Exported):
        if stage is not None:
            raise UserError("an exported file has maps of its last stage alone; leave `stage` out.")
        backend, note, stage = open_backend(checkpoint, execution="plain"), None, "last stage"
        model = None
    else:
        model = checkpoint.build()
        backend = TorchBackend(model=model, classes=(), preprocessing=preprocessing)
        stage, note = stage_for(model, preprocessing.size, stage)
    found = []
    for source in images:
        pixels = read_image(source, preprocessing)
        logits = backend.logits(pixels[None])[0].double() / checkpoint.temperature
        percent = 100 * logits.softmax(0)
        chosen = torch.tensor(numbers or percent.argsort(descending=True)[:top].tolist())
        several = pixels[None].expand(len(chosen), -1, -1, -1)
        if model is None:
            maps = backend.class_maps(several, chosen).relu()
            maps /= maps[0].numel()  # as Grad-CAM scales them
        else:
            maps = heat_maps(model, normalize(several, preprocessing), chosen, stage=stage)
        found.append(
            Explanation(
                title=Path(source).name if isinstance(source, str | Path) else "image",
                pixels=pixels,
                top=tuple((checkpoint.classes[i], float(percent[i])) for i in chosen.tolist()),
                maps=maps,
                stage=stage,
            )
        )
    return found, note


def _class_number(name: str, classes: Sequence[str]) -> int:
    folded = [known.casefold() for known in classes]
    if name.casefold() not in folded:
        raise UserError(f"the network has no class {name!r}{did_you_mean(name, classes)}")
    return folded.index(name.casefold())


def load_and_explain(
    run: str | Path | Checkpoint | Exported,
    images: Sequence[str | Path],
    *,
    classes: Sequence[str] = (),
    top: int = 3,
    stage: str | None = None,
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
) -> tuple[list[Explanation], str | None]:
    """``explain_images`` of a run or of any source of ``load_checkpoint``; folders as well."""
    checkpoint = load_network(run, model=model, model_overrides=model_overrides)
    return explain_images(checkpoint, find_images(images), classes=classes, top=top, stage=stage)
