"""What a user knows of a foreign file and the file does not tell."""

import json
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from resnetlab.data.images import normalize
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.inference.network import load_network, read_classes
from resnetlab.inference.predictor import Predictor, predict
from resnetlab.plots.images import visualize
from resnetlab.weights.checkpoint import load_checkpoint

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """torchvision's resnet18 with a 3x3 stem whose max pool stays, and its file."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    path = tmp_path_factory.mktemp("stranger") / "x.pth"
    torch.save(model.state_dict(), path)
    return model.eval(), path


@pytest.fixture
def options(tmp_path):
    """What its author knows of it."""
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(NAMES) + "\n")
    return {
        "model_overrides": {"stem": "cifar-pool"},
        "mean": MEAN,
        "std": STD,
        "classes": names,
    }


def test_with_what_its_author_knows_a_foreign_file_computes_the_same(stranger, options):
    model, path = stranger
    network = load_network(path, **options)
    assert network.classes == NAMES
    assert (network.preprocessing.mean, network.preprocessing.std) == (MEAN, STD)
    assert network.guessed == frozenset()
    assert not any("pool" in note or "normalisation" in note for note in network.notes)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        wanted = model(normalize(images, network.preprocessing))
    for source, given in ((network, {}), (path, options)):
        found = Predictor(source, execution="plain", **given).logits(images)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(Predictor(path).logits(images), wanted, atol=1e-2)


def test_evaluate_predict_and_visualize_take_it_alike(stranger, options, tmp_path):
    _, path = stranger
    known = load_network(path, **options)
    data = {"dataset": "cifar10-sample", "data_dir": SAMPLES}
    wanted = evaluate(known, **data).to_dict()
    assert evaluate(path, **data, **options).to_dict() == wanted
    assert evaluate(path, **data).to_dict() != wanted
    images = [Image.effect_noise((40, 40), sigma) for sigma in (20, 90)]
    assert predict(path, images, **options) == predict(known, images)
    assert predict(path, images) != predict(known, images)
    drawn = [
        visualize(network, n=3, out=tmp_path / f"{i}.png", **data, **given).read_bytes()
        for i, (network, given) in enumerate(((known, {}), (path, options), (path, {})))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": MEAN}, "`mean` and `std` go together"),
        ({"std": STD}, "`mean` and `std` go together"),
        ({"mean": (), "std": STD}, "`mean` and `std` go together"),
        ({"mean": (0.5,), "std": (0.5,)}, "of 1 channels and the network takes 3"),
        ({"mean": MEAN, "std": (0.1, 0.1, 0.0)}, "`std` must be greater than 0"),
        ({"mean": (125, 123, 114), "std": (63, 62, 67)}, "`mean` is of pixels scaled .* not 125"),
        ({"classes": NAMES[:9]}, "`classes` has 9 names and the network 10 outputs; give a name"),
        ({"model_overrides": {"stm": "cifar"}}, "no field 'stm'; did you mean 'stem'"),
        ({"model": "resnet17"}, "resnet17.*did you mean 'resnet1"),
    ],
)
def test_what_does_not_fit_is_a_sentence(given, message, stranger):
    with pytest.raises(UserError, match=message):
        load_network(stranger[1], **given)


def test_it_is_no_use_with_what_is_loaded_already(stranger):
    network = load_checkpoint(stranger[1])
    assert load_network(network, model_overrides={}) is network
    with pytest.raises(UserError, match="`classes` is for a network that is yet to be loaded"):
        predict(network, b"", classes=NAMES)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", "cat\nsled dog\n猫\n"),
        ("x.txt", "\ufeffcat\r\nsled dog\r\n猫\r\n\r\n"),
        ("x", " cat \nsled dog\n猫"),
        ("x.json", '["cat", "sled dog", "猫"]'),
        ("names", '\n["cat",\n "sled dog", "\\u732b"]\n'),
    ],
)
def test_names_of_classes_out_of_a_file(name, content, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert read_classes(tmp_path / name) == ["cat", "sled dog", "猫"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"cat\n\ndog", "has an empty line where a name should be"),
        ("x.txt", b"", "has an empty line where a name should be"),
        ("x.txt", b"caf\xe9", "cannot be read: 'utf-8' codec"),
        ("x.json", b'["cat", ', "cannot be read: Expecting value"),
        ("x.json", json.dumps({"0": "cat"}).encode(), "must hold a name a line, or a JSON list"),
        ("x.json", b'["cat", 7]', "must hold a name a line, or a JSON list"),
    ],
)
def test_files_without_names_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"`classes` {tmp_path / name} {message}"):
        read_classes(tmp_path / name)


def test_no_file_of_names(tmp_path):
    with pytest.raises(UserError, match=f"cannot read {tmp_path / 'x'}: No such file"):
        read_classes(tmp_path / "x")
    with pytest.raises(UserError, match=f"`classes` {tmp_path} is no file"):
        read_classes(tmp_path)
    with pytest.raises(UserError, match=r"https://x\.org/names\.txt is an address"):
        read_classes("https://x.org/names.txt")
