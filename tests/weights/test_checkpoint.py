"""Weights in and out, with files of the real thing: PyTorch, torchvision, timm."""

from __future__ import annotations

import json
import os
import pickle
import time
import urllib.error
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
import torchvision
from huggingface_hub.errors import EntryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.resnet import Bottleneck as TimmBottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnetlab.models.architecture import ARCHITECTURES, Architecture, get_architecture
from resnetlab.models.resnet import ResNet, create_model
from resnetlab.preprocessing import Preprocessing
from resnetlab.weights import foreign, hub, locate
from resnetlab.weights.checkpoint import load_checkpoint, load_weights
from resnetlab.weights.recognition import read_architecture
from resnetlab.weights.save import export_state_dict, save_weights
from resnetlab.weights.usual import IMAGENET, OFTEN_CIFAR10

FIXTURES = Path(__file__).parent / "fixtures"
TORCHVISION = [n for n in ARCHITECTURES if n in torchvision.models.list_models()]
SMALL = get_architecture("resnet20")


def recognize(state):
    return read_architecture(foreign.translate(state)[0])


def shuffled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode with every tensor random, batch statistics too."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.dim() == 1:
            value.normal_(0, 0.1, generator=generator)
    return model.eval()


def small(**changes) -> ResNet:
    model = ResNet(replace(SMALL, **changes))
    shuffled(model)
    return model


def save(content, path: Path, **options) -> Path:
    torch.save(content, path, **options)
    return path


@torch.no_grad()
def assert_same_outputs(ours: nn.Module, theirs: nn.Module, size: int = 33, channels: int = 3):
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-4)


# Recognition --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_networks_are_recognised(name):
    with torch.device("meta"):
        state = torchvision.models.get_model(name).state_dict()
    assert recognize(state) == ARCHITECTURES[name]


def test_torchvision_has_nine():
    assert len(TORCHVISION) == 9


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_our_own_networks_are_recognised_but_for_what_tensors_cannot_tell(name):
    record = ARCHITECTURES[name]
    with torch.device("meta"):
        found = recognize(ResNet(record).state_dict())
    if record.shortcut == "none":
        assert found.shortcut == "A"
        found = replace(found, shortcut="none")
    assert replace(found, stride_on=record.stride_on) == record


@st.composite
def records(draw) -> Architecture:
    stages = draw(st.integers(1, 4))
    block = draw(st.sampled_from(["basic", "bottleneck"]))
    each = {"min_size": stages, "max_size": stages}
    values = {
        "block": block,
        "depths": tuple(draw(st.lists(st.integers(1, 3), **each))),
        "widths": tuple(draw(st.lists(st.sampled_from([8, 16, 32, 48]), **each))),
        "stem": draw(st.sampled_from(["imagenet", "deep", "cifar"])),
        "stem_width": draw(st.sampled_from([None, 8, 12, 64])),
        "shortcut": draw(st.sampled_from(["A", "B", "C", "D", "none"])),
        "activation": draw(st.sampled_from(["post", "pre"])),
        "in_channels": draw(st.integers(1, 5)),
        "num_classes": draw(st.integers(1, 20)),
    }
    if block == "bottleneck":
        values["stride_on"] = draw(st.sampled_from(["1x1", "3x3"]))
        values["groups"] = draw(st.sampled_from([1, 2, 4]))
        values["width_per_group"] = draw(st.sampled_from([8, 32, 64, 100, 128]))
    try:
        return Architecture(**values)
    except ValueError:  # option A cannot narrow
        return Architecture(**(values | {"shortcut": "B"}))


@settings(max_examples=60, deadline=None)
@given(records())
def test_any_record_is_recognised_up_to_what_tensors_cannot_tell(record):
    shapes = foreign.expected_shapes(record)
    found = recognize({k: torch.empty(shape, device="meta") for k, shape in shapes.items()})
    assert foreign.expected_shapes(found) == shapes
    cannot_tell = {"stride_on", "shortcut", "stem_width", "width_per_group"}
    for field in fields(Architecture):
        if field.name not in cannot_tell:
            assert getattr(found, field.name) == getattr(record, field.name), field.name
    assert found.channels_after_stem == record.channels_after_stem
    same = found.shortcut == record.shortcut
    every_block_changes_shape = (record.shortcut, found.shortcut) == ("C", "B")
    assert same or every_block_changes_shape or not any("downsample" in name for name in shapes)


def test_what_is_no_resnet_is_refused():
    with torch.device("meta"):
        vgg = torchvision.models.vgg11().state_dict()
        pre = {k: v for k, v in small(activation="pre").state_dict().items() if "fc" not in k}
    with pytest.raises(ValueError, match=r"no ResNet.*conv1.weight.*features.0.weight"):
        recognize(vgg)
    with pytest.raises(ValueError, match="no ResNet"):
        recognize({})
    with pytest.raises(ValueError, match="no ResNet"):
        recognize({"conv1.weight": torch.zeros(3), "layer1.0.conv1.weight": torch.zeros(())})
    assert recognize(pre).activation == "pre"


# Files of PyTorch, torchvision and timm -----------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_torchvision_state_dict_computes_the_same(name, tmp_path):
    theirs = shuffled(torchvision.models.get_model(name))
    weights = load_checkpoint(save(theirs.state_dict(), tmp_path / "x.pth"))
    assert_same_outputs(weights.build(), theirs, 65)
    assert list(weights.weights) == list(theirs.state_dict())
    assert name in weights.origin
    assert "1000 classes, 3 input channels" in weights.origin
    assert weights.preprocessing == Preprocessing(
        mean=IMAGENET[0], std=IMAGENET[1], size=224, resize=256
    )
    assert any("v1.5" in note for note in weights.notes) == (name != "resnet18")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
        ("resnet18d", "resnet18d"),
        ("resnet50d", "resnet50d"),
        ("resnet50c", None),
    ],
)
def test_timm_state_dict_computes_the_same(name, ours, tmp_path):
    theirs = shuffled(timm.create_model(name, num_classes=7))
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    weights = load_checkpoint(tmp_path / "model.safetensors")
    assert_same_outputs(weights.build(), theirs, 65)
    expected = (
        get_architecture(ours, num_classes=7)
        if ours
        else get_architecture("resnet50", stem="deep", num_classes=7)
    )
    assert weights.architecture == expected
    assert weights.guessed >= {"preprocessing"}
    assert any("normalisation" in note for note in weights.notes)


def test_timm_networks_of_other_kinds_are_refused(tmp_path):
    for name in ("resnet50t", "seresnet18", "resnet50_gn"):
        path = save(timm.create_model(name).state_dict(), tmp_path / "x.pth")
        with pytest.raises(ValueError, match=r"nothing was loaded|no ResNet"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("wrap", "container", "origin", "note"),
    [
        (
            nn.DataParallel,
            None,
            "DataParallel checkpoint",
            " as module.layer1.0.conv1.weight to layer1.0.conv1.weight",
        ),
        (torch.compile, "net", "torch.compile checkpoint", "'net'"),
        (lambda m: nn.DataParallel(torch.compile(m)), "model", "DataParallel", "best_acc"),
        (lambda m: nn.ModuleDict({"backbone": m}), "state_dict_ema", "PyTorch", "state_dict_ema"),
        (lambda m: nn.Sequential(nn.Identity(), m), "params", "PyTorch", "1.layer1.0"),
    ],
)
def test_wrapped_models_are_unwrapped(wrap, container, origin, note, tmp_path):
    model = small(shortcut="B")
    content = wrap(model).state_dict()
    if container:
        content = {container: content, "epoch": 3, "best_acc": 0.9, "optimizer": {"state": {}}}
    weights = load_checkpoint(save(content, tmp_path / "x.pt"))
    assert weights.architecture == model.architecture
    assert_same_outputs(weights.build(), model)
    assert weights.origin.startswith(origin)
    assert note in "\n".join(weights.notes)


def test_half_precision_becomes_fp32(tmp_path):
    for kind in (torch.float16, torch.bfloat16):
        weights = load_checkpoint(save(small().to(kind).state_dict(), tmp_path / "x.pth"))
        floats = [v for v in weights.weights.values() if v.is_floating_point()]
        assert {v.dtype for v in floats} == {torch.float32}
        assert str(kind) in "\n".join(weights.notes)


class TheirBlock(nn.Module):
    """As in the CIFAR projects: ``shortcut`` is empty, a function (option A) or 1x1 and norm."""

    def __init__(self, before: int, width: int, stride: int, option: str, expansion: int = 1):
        super().__init__()
        after = width * expansion
        shapes = [(before, width, 3, stride), (width, width, 3, 1)]
        if expansion > 1:
            shapes = [(before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)]
        self.depth = len(shapes)
        for i, (a, b, kernel, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.shortcut = nn.Sequential()
        self.pads = (after // 4, stride) if option == "A" and before != after else None
        if option == "B" and (stride != 1 or before != after):
            projection = nn.Conv2d(before, after, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i in range(1, self.depth + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            out = F.relu(out) if i < self.depth else out
        if self.pads:
            pad, stride = self.pads
            return F.relu(out + F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, pad, pad)))
        return F.relu(out + self.shortcut(x))


class TheirNet(nn.Module):
    def __init__(self, depths, widths, option: str, expansion: int = 1):
        super().__init__()
        before = widths[0]
        self.conv1 = nn.Conv2d(3, before, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = []
            for j in range(depth):
                stride = 2 if j == 0 and i > 1 else 1
                blocks.append(TheirBlock(before, width, stride, option, expansion))
                before = width * expansion
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.stages = len(depths)
        self.linear = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, self.stages + 1):
            x = getattr(self, f"layer{i}")(x)
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_pickle_of_2018_with_option_a(tmp_path, monkeypatch):
    """Legacy format, from CUDA's memory, no num_batches_tracked, linear, no shortcut's keys."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    theirs = shuffled(TheirNet((3, 3, 3), (16, 32, 64), "A"))
    state = nn.DataParallel(theirs).state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    content = {"state_dict": state, "best_prec1": 91.73}
    path = save(content, tmp_path / "resnet20.th", _use_new_zipfile_serialization=False)
    weights = load_checkpoint(path)
    assert weights.origin == (
        "DataParallel checkpoint, CIFAR resnet20, shortcut A, 10 classes, 3 input channels"
    )
    assert weights.preprocessing == Preprocessing(mean=IMAGENET[0], std=IMAGENET[1], size=32)
    assert weights.guessed == {"classes"}
    text = "\n".join(weights.notes)
    for words in ("best_prec1", "19 num_batches_tracked", "module.linear.weight", "plain net"):
        assert words in text
    assert_same_outputs(load_weights("resnet20", path), theirs, 32)
    load_weights("plain20", path)  # tensors cannot tell, so the name decides
    with pytest.raises(ValueError, match=r"resnet20, shortcut A.*differs in depths \(9, 9, 9\)"):
        load_weights("resnet56", path)


@pytest.mark.parametrize(("depths", "expansion"), [((2, 2, 2, 2), 1), ((1, 2, 1, 1), 4)])
def test_cifar_project_with_option_b(depths, expansion, tmp_path):
    theirs = shuffled(TheirNet(depths, (16, 32, 64, 128), "B", expansion))
    weights = load_checkpoint(
        save({"net": theirs.state_dict(), "acc": 95.0}, tmp_path / "ckpt.pth")
    )
    assert_same_outputs(weights.build(), theirs, 32)
    assert (weights.architecture.stem, weights.architecture.shortcut) == ("cifar", "B")
    assert weights.guessed >= {"preprocessing"}


def test_cifar_network_with_our_keys_has_the_usual_normalisation(tmp_path):
    weights = load_checkpoint(save(small(shortcut="B").state_dict(), tmp_path / "x.pt"))
    assert (weights.preprocessing.mean, weights.preprocessing.std) == OFTEN_CIFAR10
    assert any("assumed" in note for note in weights.notes)


def test_transformers_names():
    """As transformers 5.23.0 names a ResNetForImageClassification's tensors."""
    state = shuffled(create_model("resnet50", depths=(1, 2, 1, 1), num_classes=5)).state_dict()
    kinds = {"conv": "convolution", "bn": "normalization"}

    def theirs(name: str) -> str:
        parts = name.split(".")
        if parts[0] == "fc":
            return f"classifier.1.{parts[1]}"
        if not parts[0].startswith("layer"):
            return f"resnet.embedder.embedder.{kinds[parts[0][:-1]]}.{parts[1]}"
        stage, block, *layer, last = parts
        if layer[0] == "downsample":
            inner = f"shortcut.{list(kinds.values())[int(layer[1])]}"
        else:
            inner = f"layer.{int(layer[0][-1]) - 1}.{kinds[layer[0][:-1]]}"
        return f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{block}.{inner}.{last}"

    names = {theirs(name): name for name in state}
    assert "resnet.encoder.stages.3.layers.0.layer.2.convolution.weight" in names
    translated, *_ = foreign.translate({name: state[ours] for name, ours in names.items()})
    assert list(translated) == list(state)
    assert all(torch.equal(translated[name], state[name]) for name in state)


# What is refused ----------------------------------------------------------------------------------


class Trap:
    """Unpickled, it makes a folder."""

    path: str

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_runs_code_is_refused_and_does_not_run(zipped, tmp_path):
    trap = Trap()
    trap.path = str(tmp_path / "ran")
    content = {"state_dict": small().state_dict(), "trap": trap}
    path = save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"x\.pth is refused.*mkdir.*can run code"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap was a real one


def test_other_pickles_are_refused_with_the_way_to_convert(tmp_path):
    whole = save(small(), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"refused.*resnet\.ResNet.*state_dict\(\)"):
        load_checkpoint(whole)
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps({"a": np.ones(3)}))
    with pytest.raises(ValueError, match=r"bare\.pkl"):
        load_checkpoint(bare)
    with pytest.raises(ValueError, match="no tensors by name"):
        load_checkpoint(save({"epoch": 3, "state_dict": {}}, tmp_path / "x.pt"))
    with pytest.raises(ValueError, match="no tensors by name"):
        load_checkpoint(save([torch.ones(3)], tmp_path / "x.pt"))


def _truncated(path: Path) -> bytes:
    return path.read_bytes()[:-2000]


def test_damaged_files_are_named(tmp_path):
    legacy = {"_use_new_zipfile_serialization": False}
    checked = (FIXTURES / "mindspore_tutorial.ckpt").read_bytes()  # has a checksum
    safe = tmp_path / "full.safetensors"
    save_weights(small(), safe)
    contents = {
        "empty.pth": b"",
        "page.pth": b"<!DOCTYPE html>",
        "pointer.pth": b"version https://git-lfs.github.com/spec/v1\n",
        "text.pth": b"hello, world of weights",
        "zip.pth": _truncated(save(small().state_dict(), tmp_path / "full.pth")),
        "legacy.th": _truncated(save(small().state_dict(), tmp_path / "full.th", **legacy)),
        "pickle.pth": b"\x80\x02junk",
        "safe.safetensors": _truncated(safe),
        "short.ckpt": _truncated(FIXTURES / "mindspore_zoo.ckpt"),
        "flipped.ckpt": checked[:2000] + bytes([checked[2000] ^ 1]) + checked[2001:],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            load_checkpoint(tmp_path / name)


def test_nothing_is_half_loaded(tmp_path):
    model = small(shortcut="B")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = dict(small(shortcut="B").state_dict())
    state["layer1.0.attention.weight"] = torch.ones(3)
    state["layer2.1.conv1.weight"] = torch.ones(5, 5, 3, 3)
    del state["layer3.1.bn1.bias"]
    path = save(state, tmp_path / "x.pt")
    faults = (
        r"1 missing \(layer3.1.bn1.bias\), 1 unexpected \(layer1.0.attention.weight\), "
        r"1 of another shape \(layer2.1.conv1.weight\); nothing was loaded"
    )
    with pytest.raises(ValueError, match=faults):
        load_weights(model, path)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    weights = load_checkpoint(path, allow_mismatch=True)
    assert any("layer3.1.bn1.bias" in note and "freshly" in note for note in weights.notes)
    assert torch.equal(weights.weights["layer3.1.bn1.bias"], torch.zeros(64))
    assert weights.build().architecture == model.architecture


def test_several_networks_and_double_names_are_refused(tmp_path):
    state = small().state_dict()
    two = {f"{prefix}.{k}": v for prefix in ("student", "teacher") for k, v in state.items()}
    with pytest.raises(ValueError, match=r"2 networks in it, named 'student\.', 'teacher\.'"):
        load_checkpoint(save(two, tmp_path / "x.pt"))
    with pytest.raises(
        ValueError, match=r"bn1.weight and norm1.weight both claim to be bn1.weight"
    ):
        recognize({**state, "norm1.weight": state["bn1.weight"]})
    path = save({**state, "linear.weight": state["fc.weight"]}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"1 unexpected \(linear.weight\)"):
        load_checkpoint(path)


def test_backbone_without_a_head(tmp_path):
    state = {k: v for k, v in small(shortcut="B").state_dict().items() if not k.startswith("fc.")}
    path = save(state, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"no classifier .*; train it one, with `pretrained`"):
        load_checkpoint(path)
    model = load_weights(small(shortcut="B", num_classes=4), path, allow_mismatch=True)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"])


# Our own files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_round_trip_carries_everything(ending, tmp_path):
    model = shuffled(create_model("preresnet164", in_channels=1, stride_on="3x3"))
    card = {
        "classes": [f"class {i}" for i in range(10)],
        "preprocessing": Preprocessing(mean=(0.286,), std=(0.353,), size=28, crop="letterbox"),
        "temperature": 1.25,
        "dataset": "fashion-mnist",
    }
    path = save_weights(model, tmp_path / f"x{ending}", **card)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    weights = load_checkpoint(path)
    assert weights.architecture == model.architecture
    assert list(weights.classes) == card["classes"]
    assert weights.preprocessing == card["preprocessing"]
    assert (weights.temperature, weights.dataset) == (1.25, "fashion-mnist")
    assert not weights.guessed
    assert weights.notes in ((), ("taken from its entry 'model'",))
    assert_same_outputs(weights.build(), model, 28, channels=1)
    with pytest.raises(ValueError, match="stride_on 1x1"):
        load_weights("preresnet164", path)


def test_saving_names_what_it_does_not_take(tmp_path):
    with pytest.raises(ValueError, match="no field 'labels'"):
        save_weights(small(), tmp_path / "x.pth", labels=[])
    with pytest.raises(ValueError, match="written as"):
        save_weights(small(), tmp_path / "x.bin")
    path = save_weights(small(), tmp_path / "x.pth", classes=["one"])
    with pytest.raises(ValueError, match="1 names of classes and 10 outputs"):
        load_checkpoint(path)
    assert len(list(tmp_path.iterdir())) == 1


def test_run_folder_and_bundled_name(tmp_path, monkeypatch):
    model = small(shortcut="none")
    run = tmp_path / "my-run"
    run.mkdir()
    with pytest.raises(ValueError, match="without a best"):
        load_checkpoint(run)
    best = {"model": model.state_dict(), "architecture": model.architecture.to_dict()}
    best |= {"classes": list("abcdefghij"), "mean": [0.5] * 3, "std": [0.2] * 3, "image_size": 32}
    save(best | {"dataset": "cifar10", "metrics": {"accuracy": 0.9}, "recipe": {}}, run / "best.pt")
    for source in (run, str(run), run / "best.pt"):
        weights = load_checkpoint(source)
        assert weights.architecture.shortcut == "none"  # recorded, where tensors cannot tell
        assert weights.classes == tuple("abcdefghij")
    assert load_checkpoint(run).origin.startswith("run my-run, CIFAR plain20")

    monkeypatch.setattr(locate, "BUNDLED", tmp_path)
    save_weights(model, tmp_path / "plain20-cifar10.safetensors")
    card = json.dumps({"mean": [0.1] * 3, "std": [1.0] * 3, "title": "plain"})
    (tmp_path / "plain20-cifar10.json").write_text(card)
    assert load_checkpoint("plain20-cifar10").preprocessing.mean == (0.1, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"bundled: plain20-cifar10.*resnet50:DEFAULT"):
        load_checkpoint("resnet50")


# Other numbers of classes and channels, other libraries' layouts ----------------------------------


def test_load_weights_adapts_when_asked_and_only_then(tmp_path):
    source = small()
    path = save_weights(source, tmp_path / "x.safetensors")
    model = load_weights("resnet20", path, num_classes=7, in_channels=1)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    kept = load_weights("resnet20", path, num_classes=10)
    assert torch.equal(kept.state_dict()["fc.weight"], source.state_dict()["fc.weight"])
    target = small(num_classes=7)
    with pytest.raises(ValueError, match="num_classes 10 and the network 7; pass num_classes=7"):
        load_weights(target, path)
    assert load_weights(target, path, num_classes=7) is target
    assert torch.equal(target.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])
    assert_same_outputs(load_weights(ResNet(SMALL), load_checkpoint(path)), source)
    with pytest.raises(ValueError, match="shortcut B"):
        load_weights(small(shortcut="B"), path)


def test_export_to_torchvision_and_timm(tmp_path):
    model = shuffled(create_model("resnet50", depths=(1, 2, 1, 1), num_classes=5))
    theirs = torchvision.models.ResNet(Bottleneck, [1, 2, 1, 1], num_classes=5)
    theirs.load_state_dict(export_state_dict(model, "torchvision"), strict=True)
    assert_same_outputs(model, theirs.eval())
    path = save_weights(model, tmp_path / "x.pth", layout="torchvision")
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)

    model = shuffled(create_model("resnet50d", depths=(1, 2, 1, 1), num_classes=5))
    theirs = TimmResNet(
        TimmBottleneck, (1, 2, 1, 1), 5, stem_width=32, stem_type="deep", avg_down=True
    )
    theirs.load_state_dict(export_state_dict(model, "timm"), strict=True)
    assert_same_outputs(model, theirs.eval())
    theirs = torchvision.models.ResNet(BasicBlock, [2, 2, 2, 2])
    theirs.load_state_dict(export_state_dict(create_model("resnet18"), "torchvision"), strict=True)


@pytest.mark.parametrize(
    ("name", "layout", "words"),
    [
        ("resnet20", "torchvision", r"depths \(3, 3, 3\)"),
        ("resnet50_v1", "torchvision", "stride_on 1x1"),
        ("resnet50d", "torchvision", "stem deep, shortcut D"),
        ("plain18", "timm", "shortcut none"),
        ("resnet18", "keras", "layout must be"),
    ],
)
def test_export_refuses_what_the_library_would_compute_otherwise(name, layout, words):
    with torch.device("meta"):
        model = create_model(name)
    with pytest.raises(ValueError, match=words):
        export_state_dict(model, layout)


# Sources online, without a network ----------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("ResNet50_Weights.IMAGENET1K_V2", r"resnet50-11ad3fa6\.pth cannot be fetched.*local file"),
        ("resnet50:IMAGENET1K_V2", r"resnet50-11ad3fa6\.pth cannot be fetched.*local file"),
        (
            "resnet50:IMAGENET21K",
            "ResNet50_Weights are: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, not IMA",
        ),
        ("resnet51:DEFAULT", "no model 'resnet51'; did you mean 'resnet50'"),
        ("timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k cannot be fetched.*local file"),
        ("hf-hub:somebody/their-net", "somebody/their-net cannot be fetched.*local file"),
        ("https://example.org/x.pth", r"https://example.org/x.pth cannot be fetched.*local file"),
        ("no-such-file.pth", r"no file, run or bundled network 'no-such-file.pth'.*address\.$"),
        ("resnet20", "did you mean 'resnet20-cifar10'"),
        ("resnet20-cifar11", "did you mean 'resnet20-cifar10'"),
        ("resnet50", "did you mean 'resnet50:DEFAULT'"),
        ("resnet56", r"address\.$"),
    ],
)
def test_offline_is_said_in_one_sentence_and_at_once(source, words):
    start = time.monotonic()
    with pytest.raises(ValueError, match=words) as error:
        load_checkpoint(source)
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < 5


def test_torchvision_weight_carries_its_classes_and_normalisation(monkeypatch, tmp_path):
    theirs = torchvision.models.resnet18()

    def fetch(urls, folder, **_):
        (url,) = urls
        assert url.endswith("/resnet18-f37072fd.pth")
        torch.save(theirs.state_dict(), folder / "resnet18-f37072fd.pth")

    monkeypatch.setattr(hub, "fetch_files", fetch)
    monkeypatch.setattr(hub, "_sha256", lambda _: "f37072fd")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = load_checkpoint("ResNet18_Weights.IMAGENET1K_V1")
    assert weights.origin.startswith("torchvision ResNet18_Weights.IMAGENET1K_V1, resnet18, ")
    assert weights.classes[0] == "tench"
    assert weights.preprocessing == Preprocessing(
        mean=IMAGENET[0], std=IMAGENET[1], size=224, resize=256
    )
    assert (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").is_file()
    load_checkpoint("resnet18:DEFAULT")  # from the cache


def test_hub_repository_carries_timm_configuration(monkeypatch, tmp_path):
    theirs = timm.create_model("resnet18d", num_classes=3)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "resnet18d", "pretrained_cfg": {"input_size": [3, 288, 288]}}
    config["pretrained_cfg"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(hub, "_reachable", lambda _: True)

    def fetch(_, name, **__):
        if not (tmp_path / name).is_file():
            raise EntryNotFoundError(name)
        return tmp_path / name

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    weights = load_checkpoint("timm/resnet18d.x_in1k")
    assert weights.origin.startswith("timm/resnet18d.x_in1k of the Hugging Face hub, resnet18d")
    assert (weights.preprocessing.mean, weights.preprocessing.size) == ((0.5, 0.5, 0.5), 288)
    assert (weights.preprocessing.resize, weights.preprocessing.interpolation) == (329, "bicubic")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnetaa50"}))
    with pytest.raises(ValueError, match="anti-aliased"):
        load_checkpoint("timm/resnetaa50.x")
    (tmp_path / "config.json").write_text(json.dumps({"downsample_in_bottleneck": True}))
    with pytest.raises(ValueError, match="strides"):
        load_checkpoint("hf-hub:somebody/resnet-50")
