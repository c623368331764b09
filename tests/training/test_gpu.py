"""The same on a GPU; the machines of CI have none."""

import dataclasses
import signal

import pytest
import torch

from resnetlab.data.augmentation import Augmentation
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.inference.backends import TorchBackend
from resnetlab.preprocessing import Preprocessing
from resnetlab.recipes.table import get_recipe
from resnetlab.training.job import resume
from resnetlab.training.plan import load_data, make_plan
from resnetlab.training.probe import choose_execution
from resnetlab.weights.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

MUCH = {
    "optimizer": "muon",
    "ema_decay": 0.8,
    "accumulate": 2,
    "cutmix": 1.0,
    "clip_norm": 5.0,
    "crop_padding": 2,
    "crop_mode": "reflect",
    "flip": "alternating",
    "cutout": 4,
    "early_size": 24,
    "early_share": 0.5,
}


@pytest.mark.parametrize("words", ["fp32", "bf16,channels_last", "fp16,channels_last"])
def test_an_interrupted_run_ends_like_an_unbroken_one_bit_for_bit(tiny, tmp_path, words):
    changes = MUCH | {"execution": f"cuda,{words}"}
    whole = tiny.train("whole", **changes)
    with tiny.signal_after(signal.SIGINT, 2), pytest.raises(KeyboardInterrupt):
        tiny.train("broken", **changes)
    training = resume(tmp_path / "broken")
    assert tiny.contents(tmp_path / "broken") == tiny.contents(whole.run)
    assert tiny.comparable(training.history) == tiny.comparable(whole.history)


def test_compiled_the_same_is_learned(tiny):
    changes = {"epochs": 4, "ema_decay": 0.8}
    eager = tiny.train("eager", execution="cuda", **changes)
    compiled = tiny.train("compiled", execution="cuda,compile", **changes)
    for ours, theirs in zip(compiled.history, eager.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=2e-2)


def test_a_gpu_learns_what_a_cpu_learns(tiny):
    on_cpu = tiny.train("cpu", execution="plain")
    on_gpu = tiny.train("gpu", execution="cuda")
    for ours, theirs in zip(on_gpu.history, on_cpu.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
    assert on_gpu.history[-1]["peak_memory_mb"] > 0


def test_classes_count_differently(tiny):
    training = tiny.train(class_weights="balanced", execution="cuda")
    assert training.history[-1]["train_loss"] < 10


def test_the_classifier_alone(tiny):
    start = tiny.train("start", execution="cuda")
    training = tiny.train("head", pretrained=str(start.run), freeze="backbone", execution="cuda")
    assert training.history[0]["train_top1"] > 10


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_padding": 3, "flip": "random", "cutout": 5},
        {"crop_padding": 2, "crop_mode": "reflect", "flip": "alternating"},
        {"mixup": 1.0, "cutmix": 1.0},
    ],
)
@pytest.mark.parametrize("size", [None, 20])
def test_the_same_images_are_drawn(changes, size):
    augmentation = Augmentation(
        **changes,
        preprocessing=Preprocessing(size=32, mean=(0.5,) * 3, std=(0.25,) * 3),
        num_classes=10,
    )
    images = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
    labels, indices = torch.arange(16) % 10, torch.arange(16)
    given = {"epoch": 1, "step": 2, "size": size}
    expected = augmentation(images, labels, indices, **given)
    seen = augmentation(images.cuda(), labels.cuda(), indices, **given)
    # Resized, a byte may be rounded to its neighbour.
    for ours, theirs in zip(seen, expected, strict=True):
        assert ours.device.type == "cuda"
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-5 if size is None else 0.02, rtol=0)


@pytest.mark.parametrize("words", ["cuda", "cuda,channels_last", "cuda,bf16,channels_last"])
def test_predictions_are_those_of_a_cpu(smoke, words):
    checkpoint = load_checkpoint(smoke.run)
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(8)
    on_cpu, on_gpu = (TorchBackend.load(checkpoint, each) for each in ("plain", words))
    scale = on_cpu.logits(images).abs().max()
    off = {"atol": float(scale) * (0.03 if "bf16" in words else 1e-4), "rtol": 0}
    torch.testing.assert_close(on_gpu.logits(images), on_cpu.logits(images), **off)
    maps = on_cpu.class_maps(images, labels)
    off["atol"] *= float(maps.abs().max() / scale)
    torch.testing.assert_close(on_gpu.class_maps(images, labels), maps, **off)


def test_evaluation_is_that_of_a_cpu(smoke):
    here = evaluate(smoke.run, execution="cuda")
    assert here.loss == pytest.approx(evaluate(smoke.run).loss, rel=1e-4)


def test_the_fastest_is_measured_on_the_gpu(tmp_path, monkeypatch, samples):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path))
    recipe = get_recipe("smoke", execution="auto", data_dir=str(samples))
    said = []
    plan = make_plan(recipe, *load_data(recipe, said.append))
    chosen = choose_execution(plan, report=said.append)
    assert (chosen.device, chosen.mode) == ("cuda", "eager")
    assert dataclasses.replace(recipe, execution=str(chosen))
    assert "images/s measured" in said[-1]
