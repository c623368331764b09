"""A network as a file for another runtime, proven there before it gets its name."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from resnetlab.compute.execution import PLAIN
from resnetlab.console import progress, waiting
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.find import find_images
from resnetlab.environment import torch_defaults
from resnetlab.errors import UserError
from resnetlab.evaluation.classes import in_order_of
from resnetlab.evaluation.evaluate import dataset_of
from resnetlab.export.bundle import write_bundle
from resnetlab.export.card import make_card
from resnetlab.export.check import Check, Speed, check_batches, replay, speeds
from resnetlab.export.golden import ImageFiles, LabelledImages, ProofImages, write_golden
from resnetlab.export.int8 import CALIBRATION, require_worthwhile
from resnetlab.export.writers import SUFFIXES, Format, open_written, write
from resnetlab.files import cannot_write, is_address, user_path, write_json
from resnetlab.inference.backends import Backend, TorchBackend
from resnetlab.inference.choice import open_backend
from resnetlab.inference.deployed import Input
from resnetlab.inference.exported import MODEL, Exported
from resnetlab.inference.network import load_network
from resnetlab.inference.prepare import inference_batch_size, inference_execution
from resnetlab.models.architecture import Architecture
from resnetlab.weights.checkpoint import Checkpoint

_REFERENCE = "PyTorch, fp32 eager"


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that was written, and the proof that it answers as the network does."""

    path: Path
    """the network; of a bundle its folder"""
    bytes: int
    """of the network's files"""
    check: Check
    speeds: tuple[Speed, ...]
    """PyTorch's fp32 eager first, of each batch size"""

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "check": self.check.to_dict(),
            "speeds": [speed.to_dict() for speed in self.speeds],
        }


@torch_defaults()
def export_network(
    run: Checkpoint | str | Path,
    *,
    format: Format = "onnx",
    int8: bool = False,
    out: str | Path | None = None,
    input: Input = "uint8",
    class_maps: bool = False,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    images: Iterable[str | Path] = (),
    n: int | None = None,
    model: str | Architecture | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: str | Path | Sequence[str] | None = None,
) -> Export:
    """Write a network for another runtime.

    Before the file gets its name it is loaded in its runtime, its logits are compared with those
    of PyTorch in fp32 on real images at batch 1, 2, 3 and 16, and the test set is replayed. Beside
    it lie NAME.json (classes, preprocessing, temperature, threshold, the check) and NAME.golden/, a
    few images with their answers.

    Args:
        run: A run folder, a Checkpoint, or another source of ``load_checkpoint``.
        format: "onnx"; "openvino" (.xml and .bin); "torch" (.pt2 of torch.export); "safetensors"
            (weights and record); "bundle": a folder that runs without PyTorch.
        int8: Whether to quantise, with training images for calibration; onnx, openvino and bundle.
            Kept only if accuracy falls by at most 0.5 points and it is faster here.
        out: Folder to write to; by default export/ in the run folder or in the current one.
        input: Pixels that the graph takes: "uint8" from 0 to 255, or "float" from 0 to 1; both
            before normalisation, which lies in the graph.
        class_maps: Whether the graph has class-activation maps as a further output.
        dataset, data_dir: Images to check it on, as in ``evaluate``; the test split is taken or,
            without one, the validation split.
        images: Image files or folders to check it on instead, without labels.
        n: Images of the data set to replay; default: all.
        model, model_overrides, mean, std, classes: What a foreign file does not tell; see
            ``load_network``.

    Raises:
        UserError: The exported network answers otherwise, int8 does not pay, an option does not
            fit, there are no images to check it on, or a library is not installed. Then nothing
            was written.
    """
    _check_options(format, int8, input, class_maps, n)
    checkpoint = load_network(
        run,
        model=model,
        model_overrides=model_overrides,
        mean=mean,
        std=std,
        classes=classes,
    )
    if isinstance(checkpoint, Exported):
        raise UserError(f"{run} is exported already; name its run or its weights.")
    proof = _proof_images(checkpoint, dataset, data_dir, images, n)
    if isinstance(proof, LabelledImages):  # of guessed preprocessing, the data set's is better
        checkpoint = replace(checkpoint, preprocessing=proof.dataset.preprocessing)
    calibration = None
    if int8:
        if not isinstance(proof, LabelledImages):
            raise UserError("`int8` is judged by its accuracy; name a data set: `dataset`.")
        calibration = _training_images(checkpoint, dataset, data_dir)
    folder = _folder(run, out)
    name = MODEL if format == "bundle" else _name(run, checkpoint, int8) + SUFFIXES[format]
    with _all_or_nothing(folder, format == "bundle") as workplace:
        path = workplace / name
        card = make_card(
            checkpoint, input=input, class_maps=class_maps, precision="int8" if int8 else "fp32"
        )
        with waiting(f"writing {name}"):
            write(
                checkpoint,
                path,
                format,
                card,
                input=input,
                class_maps=class_maps,
                calibration=calibration,
            )
        done = _prove(checkpoint, path, format, proof, int8)
        check = {"check": done.check.to_dict(), "speeds": [x.to_dict() for x in done.speeds]}
        write_json(_beside(path, format, "json"), card | check)
        if format == "bundle":
            write_bundle(workplace, checkpoint, done.check, done.speeds, done.bytes)
    return replace(done, path=folder if format == "bundle" else folder / name)


def _check_options(
    format: Format, int8: bool, input: Input, class_maps: bool, n: int | None
) -> None:
    for option, value, choices in (
        ("format", format, get_args(Format)),
        ("input", input, get_args(Input)),
    ):
        if value not in choices:
            raise UserError(f"`{option}` must be one of {', '.join(choices)}, not {value!r}.")
    if int8 and format in ("torch", "safetensors"):
        raise UserError(f"`int8` is for onnx, openvino and bundle, not for {format}.")
    if format == "safetensors" and (class_maps or input != "uint8"):
        raise UserError("safetensors holds weights and no graph; leave `input` and `class_maps`.")
    if n is not None and n < 1:
        raise UserError(f"`n` must be at least 1, not {n}.")


def _proof_images(
    checkpoint: Checkpoint,
    dataset: str | None,
    data_dir: str | Path | None,
    images: Iterable[str | Path],
    n: int | None,
) -> ProofImages:
    if found := [Path(str(path)) for path in find_images(images)]:
        return ImageFiles(paths=found[:n], preprocessing=checkpoint.preprocessing)
    if not dataset and not checkpoint.dataset:
        raise UserError(
            "an export is checked on real images: name a data set (`dataset`) or image files "
            "(`images`)."
        )
    try:
        data = dataset_of(checkpoint, "test", dataset=dataset, data_dir=data_dir)
    except UserError as no_test:
        try:
            data = dataset_of(checkpoint, "val", dataset=dataset, data_dir=data_dir)
        except UserError:
            raise no_test from None
    if n is None or n >= len(data):
        return LabelledImages(dataset=data, indices=torch.arange(len(data)))
    # Spread over the set, which may be sorted by class.
    return LabelledImages(dataset=data, indices=torch.linspace(0, len(data) - 1, n).long())


def _training_images(
    checkpoint: Checkpoint, dataset: str | None, data_dir: str | Path | None
) -> Tensor:
    """uint8 (``CALIBRATION`` or fewer, channels, size, size), spread over the training images."""
    recipe = {} if dataset else checkpoint.recipe
    own = recipe.get("data_dir")
    if not data_dir and not dataset and own and Path(own).is_dir():
        data_dir = own
    name = dataset or checkpoint.dataset
    assert name is not None
    data = load_dataset(
        name,
        "train",
        data_dir=data_dir,
        val_size=recipe.get("val_size"),
        test_size=recipe.get("test_size"),
        split_seed=recipe.get("split_seed", 0),
    ).prepared(checkpoint.preprocessing)
    count = min(CALIBRATION, len(data))
    return data.batch(torch.linspace(0, len(data) - 1, count).long())[0].contiguous()


def _prove(
    checkpoint: Checkpoint, path: Path, format: Format, proof: ProofImages, int8: bool
) -> Export:
    """Check, measure, and write the golden images beside the file."""
    reference = TorchBackend(
        model=checkpoint.build(),
        classes=checkpoint.classes,
        preprocessing=checkpoint.preprocessing,
        temperature=checkpoint.temperature,
    )
    exported = open_written(checkpoint, path, format, PLAIN)
    some = proof.first(16)
    if not int8:
        check_batches(reference, exported, some, path.name)
    size = inference_batch_size(checkpoint.preprocessing.size)
    batches = progress(proof.batches(), math.ceil(len(proof) / size), f"replaying {proof.name}")
    pair: tuple[Backend, Backend] = reference, exported
    if isinstance(proof, LabelledImages):
        pair = in_order_of(proof.dataset, reference), in_order_of(proof.dataset, exported)
    check = replay(*pair, batches, images=proof.name, what=path.name, exact=not int8)
    kind = ", int8" if int8 else ""
    backends: dict[str, Backend] = {_REFERENCE: reference, exported.name + kind: exported}
    how = inference_execution("auto")
    if format in ("openvino", "safetensors") and how.precision != "fp32":
        fast = open_written(checkpoint, path, format, how)
        backends[fast.name + kind] = fast
    if int8:
        runtime = "openvino" if format == "openvino" else "onnx"
        floats = open_backend(checkpoint, runtime, how)
        backends[floats.name] = floats
    with waiting("measuring speed"):
        measured = speeds(backends, some, (1, size))
    if int8:
        last = {speed.name: speed for speed in measured if speed.n == size}
        floats_speed = list(last.values())[-1]
        quantized = max(list(last.values())[1:-1], key=lambda speed: speed.ratio)
        require_worthwhile(check, floats_speed, quantized, path.name)
    write_golden(proof, exported, _beside(path, format, "golden"))
    files = [path, *([path.with_suffix(".bin")] if format == "openvino" else [])]
    return Export(
        path=path,
        bytes=sum(file.stat().st_size for file in files),
        check=check,
        speeds=tuple(measured),
    )


def _beside(path: Path, format: Format, what: str) -> Path:
    """Of a bundle model.json and golden; else NAME.onnx.json and so on, as a folder holds many."""
    if format == "bundle":
        return path.with_suffix(".json") if what == "json" else path.with_name(what)
    return path.with_name(f"{path.name}.{what}")


def _folder(run: Checkpoint | str | Path, out: str | Path | None) -> Path:
    if out is not None:
        folder = user_path(out)
    elif isinstance(run, str | Path) and not is_address(run) and user_path(run).is_dir():
        folder = user_path(run) / "export"
    else:
        folder = Path("export")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"`out` {folder} is a file; name a folder.")
    return folder


def _name(run: Checkpoint | str | Path, checkpoint: Checkpoint, int8: bool) -> str:
    """The file's name, without its suffix."""
    name = str(checkpoint.recipe.get("model", "network"))
    if isinstance(run, str | Path) and not is_address(run):
        name = Path(run).resolve().name if Path(run).is_dir() else Path(run).stem
    name = "".join(char if char.isalnum() or char in "-_." else "-" for char in name)
    return f"{name}-int8" if int8 else name


@contextmanager
def _all_or_nothing(folder: Path, alone: bool) -> Iterator[Path]:
    """A folder beside the files' place; what is in it moves there if the body succeeds.

    ``alone``: the folder must be new or empty.
    """
    if alone and folder.exists() and any(folder.iterdir()):
        raise UserError(f"`out` {folder} is not empty; remove it, or name another for the bundle.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-partial-") as name:
            workplace = Path(name)
            yield workplace
            _remove_helpers(workplace)
            for path in sorted(workplace.iterdir(), key=lambda path: path.suffix in (".xml",)):
                target = folder / path.name
                if target.is_dir():
                    shutil.rmtree(target)
                path.replace(target)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _remove_helpers(workplace: Path) -> None:
    """What quantising has left."""
    for name in ("plain.onnx", "prepared.onnx", "int8.onnx"):
        (workplace / name).unlink(missing_ok=True)
