"""``resnetlab evaluate``."""

import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from resnetlab.data.catalogue import load_dataset
from resnetlab.models.resnet import create_model
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import load_checkpoint


def test_evaluate(resnetlab, smoke):
    values = json.loads(resnetlab("evaluate", smoke.run, "--json").out)
    assert values == json.loads((smoke.run / "test.json").read_text())
    fast = json.loads(resnetlab("evaluate", smoke.run, "--execution", "bf16", "--json").out)
    assert fast["loss"] != values["loss"]
    out = resnetlab("evaluate", smoke.run, "--split", "val").out
    best = max(line["val_top1"] for line in smoke.history)
    assert out.startswith("cifar10-sample, val: 100 images; intervals are of 95 %\n")
    assert re.search(rf"^top-1 {best:.2f} % \([\d.]+ to [\d.]+\)$", out, re.M)
    assert re.search(r"automobile +[\d.]+ +[\d.]+ to [\d.]+ +[\d.]+ +[\d.]+ +10 ", out)
    after = r"; after the temperature [\d.]+: [\d.]+ %$"
    assert re.search(rf"^calibration error [\d.]+ %{after}", out, re.M)
    assert {"test", "val"} <= Run(smoke.run).evaluations.keys()


def test_evaluate_draws_the_confusions(resnetlab, smoke, tmp_path, assert_png, assert_sentence):
    picture = tmp_path / "confusion.png"
    answer = resnetlab("evaluate", smoke.run, "--confusion", picture, "--json")
    assert json.loads(answer.out) == json.loads((smoke.run / "test.json").read_text())
    assert answer.err == f"{picture}\n"
    assert_png(picture)
    answer = resnetlab("evaluate", smoke.run, "--confusion", tmp_path / "x.doc")
    assert_sentence(answer, "--confusion .*x.doc: name a file that ends in .png")


@pytest.fixture
def stranger(tmp_path):
    """A file of weights whose stem is followed by a max pool; the options that say all of it."""
    torch.manual_seed(0)
    network = create_model("resnet18", num_classes=10, stem="cifar-pool")
    torch.save(network.state_dict(), tmp_path / "x.pth")
    names = load_checkpoint("resnet20-cifar10").classes
    (tmp_path / "names.txt").write_text("\n".join(names))
    options = ["--mean", *(0.5, 0.4, 0.3), "--std", *(0.2, 0.3, 0.25)]
    return tmp_path / "x.pth", [*options, "--classes", tmp_path / "names.txt"]


def test_foreign_weights(resnetlab, stranger, samples, tmp_path, assert_sentence):
    path, options = stranger
    data = ("--dataset", "cifar10-sample", "--data-dir", samples)
    before = resnetlab("evaluate", path, *data, "--json")
    (remedy,) = re.findall(r"(--model-overrides stem \S+)\)", before.err)  # as it is printed
    after = resnetlab("evaluate", path, *data, *options, *remedy.split(), "--json")
    assert after.code == 0, after.err
    assert json.loads(before.out)["loss"] != json.loads(after.out)["loss"]
    assert "pooling" not in after.err
    assert "normalisation" not in after.err
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    words = ("predict", path, tmp_path / "red.png", *options, *remedy.split())
    answer = resnetlab(*words, "--format", "json")
    assert (
        json.loads(answer.out)[0]["predictions"][0]["class"] in (tmp_path / "names.txt").read_text()
    )
    drawn = resnetlab("visualize", path, *data, *options, *remedy.split(), "--n", 2)
    assert (drawn.code, drawn.out) == (0, f"{tmp_path}/predictions.png\n")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    for words in (("evaluate", path, *data), ("predict", path, tmp_path / "red.png")):
        answer = resnetlab(*words, *options)
        assert_sentence(answer, "--classes has 2 names and the network 10 outputs; give a name")


def test_names_of_classes_do_not_command_the_terminal(resnetlab, stranger, samples, tmp_path):
    path, _ = stranger
    data = load_dataset("cifar10-sample", "test", data_dir=samples)
    red = replace(load_checkpoint(path), classes=("\x1b[31mcat", *data.classes[1:]), dataset="x")
    red.save(tmp_path / "red.pt")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    words = ("predict", tmp_path / "red.pt", tmp_path / "a.png", "--topk", 10, "--format")
    answer = resnetlab(*words, "table")
    assert "\\x1b[31mcat" in answer.out
    assert "\x1b" not in answer.out + answer.err
    names = [row["class"] for row in json.loads(resnetlab(*words, "json").out)[0]["predictions"]]
    assert "\x1b[31mcat" in names
    assert "\x1b[31mcat" in resnetlab(*words, "csv").out
    answer = resnetlab(
        "evaluate", tmp_path / "red.pt", "--dataset", "cifar10-sample", "--data-dir", samples
    )
    assert answer.code == 2
    assert "\x1b" not in answer.err
    answer = resnetlab("evaluate", "\x1b[31mx.pt")
    assert "\x1b" not in answer.err
