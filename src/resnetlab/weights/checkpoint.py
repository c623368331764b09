"""A network ready to use, and how one is made of whatever a source holds.

Nothing is unpickled that could run code, and nothing is ever half-loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from resnetlab.arguments import check_types
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.models.adaptation import adapt
from resnetlab.models.architecture import Architecture, get_architecture
from resnetlab.models.resnet import ResNet
from resnetlab.preprocessing import Preprocessing
from resnetlab.records import check_fields
from resnetlab.weights import foreign, mindspore, recognition
from resnetlab.weights.card import FIELDS
from resnetlab.weights.locate import SPLIT, locate
from resnetlab.weights.save import write_weights
from resnetlab.weights.tensors import read_tensors
from resnetlab.weights.usual import UNKNOWN, complete_preprocessing, normalisation_beside

Field = Literal["classes", "preprocessing"]
"""What a source may leave open."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network with all that is needed to use it."""

    architecture: Architecture
    weights: dict[str, Tensor]
    """every tensor of the network, by our names and in our order, fp32, on the CPU"""
    classes: tuple[str, ...]
    """name of each output"""
    preprocessing: Preprocessing
    guessed: frozenset[Field] = frozenset()
    """fields that the source does not record"""
    fresh: frozenset[str] = frozenset()
    """tensors that the source does not give, and that are freshly initialised"""
    temperature: float = 1.0
    """by which logits are divided before the softmax, so that confidence is honest"""
    threshold: float | None = None
    """probability, after the temperature, below which the answer is "none of these"; None: never"""
    dataset: str | None = None
    """what it was trained on; None: unknown"""
    metrics: dict[str, Any] = field(default_factory=dict)
    """validation metrics of these weights, if there are any"""
    recipe: dict[str, Any] = field(default_factory=dict)
    """how they were trained, if that is known"""
    split_file: Path | None = None
    """which images it was trained on, where these were the user's own: beside it, in its run"""
    origin: str = "resnetlab"
    """plain words: where it comes from and what it is"""
    notes: tuple[str, ...] = ()
    """what was renamed, assumed, filled in or left out"""

    def build(self) -> ResNet:
        """The network with these weights (a copy of them), in evaluation mode."""
        # On meta no time is spent on an initialisation that is overwritten.
        with torch_defaults(), torch.device("meta"):
            model = ResNet(self.architecture)
        model = model.to_empty(device="cpu")
        model.load_state_dict(self.weights)
        return model.eval()

    def save(self, path: Path) -> None:
        """Write atomically; UserError if the disk is full or the folder closed."""
        card = {name: getattr(self, name) for name in FIELDS}
        card |= {"classes": list(self.classes), "architecture": self.architecture.to_dict()}
        write_weights(self.weights, path, card | {"preprocessing": self.preprocessing.to_dict()})


@check_types
def load_checkpoint(
    source: str | Path,
    *,
    model: str | Architecture | None = None,
    overrides: Mapping[str, Any] | None = None,
    allow_mismatch: bool = False,
    head: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
) -> Checkpoint:
    """What ``source`` holds, completely, or UserError with one sentence.

    Args:
        source: a bundled name; a run folder or its best.pt; a local file of any layout in
            ``foreign`` (.safetensors, PyTorch's formats since 2018, MindSpore's .ckpt; the content
            counts, not the ending); a torchvision weight ("ResNet50_Weights.IMAGENET1K_V2",
            "resnet50:DEFAULT"); a Hugging Face repository ("timm/resnet50.a1_in1k",
            "hf-hub:user/repo"); an https URL.
        model: decides what tensors cannot tell (``recognition.assumptions``): the name of an
            architecture or a record. The number of classes and input channels are the file's all
            the same.
        overrides: fields of the architecture that tensors cannot tell, e.g. ``stem="cifar-pool"``.
        allow_mismatch, head: see ``foreign.complete``.
        mean, std, classes: what the source does not record, or records wrongly.
    """
    asked = get_architecture(model) if isinstance(model, str) else model
    path, known, kind = locate(source)
    tensors, card, notes, layout = read_tensors(path)
    card |= known
    try:
        recorded = Architecture.from_dict(card["architecture"]) if "architecture" in card else None
        if recorded:
            _check_bounds(recorded, tensors)
        translated, renames, beside = foreign.translate(tensors)
        found = recorded or recognition.read_architecture(translated)
        if asked and not recorded and "fc.weight" not in translated:
            found = replace(found, num_classes=asked.num_classes)
        chosen = _changed(found, asked, overrides or {})
        if not allow_mismatch:
            _check_same(found, chosen, exactly=recorded is not None, training=not head)
        weights, completions, fresh = foreign.complete(
            translated, chosen, allow_mismatch=allow_mismatch, head=head
        )
        if head and classes and len(classes) != chosen.num_classes:
            raise UserError(
                f"`classes` has {len(classes)} names and the network {chosen.num_classes} outputs; "
                "give a name for each."
            )
        classes = classes or card.get("classes")
        if head and classes and len(classes) != chosen.num_classes:
            raise UserError(
                f"there are {len(classes)} names of classes and {chosen.num_classes} outputs."
            )
        stated = normalisation_beside(beside, chosen.in_channels) | card.get("preprocessing", {})
        stated |= {"mean": mean, "std": std} if mean and std else {}
        preprocessing, note = complete_preprocessing(chosen, stated, tensors)
    except (UserError, TypeError) as error:
        raise UserError(f"{source}: {error}") from error
    notes += [*renames, *completions]
    if not (recorded or asked):
        notes += recognition.assumptions(chosen, set(overrides or ()))
    notes += [note] if note else []
    for prefix, wrapper in (("module.", "DataParallel"), ("_orig_mod.", "torch.compile")):
        if all(name.startswith(prefix) for name in tensors):
            layout = f"{wrapper} checkpoint"
    if foreign.is_mindspore(tensors):
        layout = "MindSpore checkpoint"
        notes.append(mindspore.padding_note(chosen))
    guessed: set[Field] = set() if classes else {"classes"}
    if note == UNKNOWN:
        guessed.add("preprocessing")
    return Checkpoint(
        architecture=chosen,
        weights=weights,
        classes=tuple(classes or (f"class {i}" for i in range(chosen.num_classes))),
        preprocessing=preprocessing,
        guessed=frozenset(guessed),
        fresh=frozenset(fresh),
        temperature=card.get("temperature", 1.0),
        threshold=card.get("threshold"),
        dataset=card.get("dataset"),
        metrics=card.get("metrics") or {},
        recipe=card.get("recipe") or {},
        split_file=split if (split := path.with_name(SPLIT)).is_file() else None,
        origin=f"{kind or layout}, {recognition.describe(chosen)}",
        notes=tuple(notes),
    )


def _changed(
    found: Architecture, asked: Architecture | None, overrides: Mapping[str, Any]
) -> Architecture:
    """What is asked for, with the classes and channels of what was found."""
    check_fields(Architecture, overrides)
    if asked is None:
        return replace(found, **overrides)
    sizes = {"num_classes": found.num_classes, "in_channels": found.in_channels}
    return replace(asked, **sizes | dict(overrides))


def _check_same(
    found: Architecture, wanted: Architecture, *, exactly: bool, training: bool = False
) -> None:
    """UserError if a file has not the wanted network; ``exactly``: more is known than shapes."""
    if found == wanted:
        return
    if not exactly and foreign.expected_shapes(found) == foreign.expected_shapes(wanted):
        return
    raise UserError(
        f"it is {recognition.describe(found)}, not the network asked for, which differs in "
        f"{', '.join(recognition.differences(found, wanted))}; {foreign.remedy(training)}"
    )


def _check_bounds(recorded: Architecture, tensors: Mapping[str, Tensor]) -> None:
    """UserError for a record that is larger than its tensors: nothing is built after it."""
    largest = max((side for value in tensors.values() for side in value.shape), default=0)
    numbers = (*recorded.widths, recorded.num_classes, recorded.in_channels)
    if sum(recorded.depths) > len(tensors) or max(numbers) > largest:
        raise UserError("its record describes a larger network than its tensors; it is damaged.")


@check_types
def load_weights(
    model_or_name: ResNet | str,
    source: str | Path | Checkpoint,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_mode: Literal["average", "repeat"] = "average",
    allow_mismatch: bool = False,
) -> ResNet:
    """A network with the weights of ``source`` (see ``load_checkpoint``), in evaluation mode.

    A name makes a new network; a network is filled in place, and must then have the classes and
    input channels of the source or those asked for here. ``num_classes`` unlike the source's gives
    a fresh classifier, ``in_channels`` unlike the source's other input channels (see ``adapt``).
    UserError, with nothing changed, if the two do not belong together.
    """
    if isinstance(model_or_name, str):
        architecture = get_architecture(model_or_name)
    else:
        architecture = model_or_name.architecture
    if not isinstance(source, Checkpoint):
        source = load_checkpoint(source, model=architecture, allow_mismatch=allow_mismatch)
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
