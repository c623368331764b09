"""An exported file, served without torch, against the network that it came from."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from resnetlab import load_checkpoint
from resnetlab.errors import UserError
from resnetlab.inference.deployed import export_program, to_onnx
from resnetlab.inference.predictor import Predictor
from resnetlab.serving.bundle import BundleNetwork
from resnetlab.serving.engine import Engine
from resnetlab.serving.network import PredictorNetwork

from .conftest import encoded


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    checkpoint = load_checkpoint("resnet20-cifar10")
    card = {
        "input": {"type": "uint8"},
        "classes": list(checkpoint.classes),
        "preprocessing": checkpoint.preprocessing.to_dict(),
        "temperature": 1.5,
        "threshold": 0.4,
    }
    data = to_onnx(export_program(checkpoint, class_maps=True), card)
    (folder / "model.onnx").write_bytes(data)
    return folder


def test_it_answers_as_the_network_does(bundle, pictures):
    ours = Engine(BundleNetwork(str(bundle)))
    reference = PredictorNetwork(Predictor("resnet20-cifar10", execution="channels_last"))
    assert (ours.network.temperature, ours.network.threshold) == (1.5, 0.4)
    reference.temperature = 1.5
    theirs = Engine(reference)
    images = [*pictures, encoded(Image.new("LA", (50, 20), (10, 100)), "PNG")]
    for data in images:
        ours_read, theirs_read = (each.read(data, heat_map=True) for each in (ours, theirs))
        np.testing.assert_array_equal(ours_read.pixels, theirs_read.pixels)
        (one,), (other,) = ours.compute([ours_read]), theirs.compute([theirs_read])
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)
        np.testing.assert_allclose(one.heat_map, other.heat_map, atol=1e-3)
        assert one.box == other.box


def test_what_is_no_image_has_the_same_sentence_without_a_path(bundle):
    network = BundleNetwork(str(bundle))
    for data in (b"no image", b"", encoded(Image.new("RGB", (64, 64)), "PNG")[:60]):
        with pytest.raises(UserError) as ours:
            network.read(data)
        with pytest.raises(UserError) as reference:
            Predictor("resnet20-cifar10").read(data)
        assert str(ours.value) == str(reference.value)


def test_other_sources_are_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="cannot read"):
        BundleNetwork(str(tmp_path))
    with pytest.raises(UserError, match="only a bundle"):
        BundleNetwork("resnet20-cifar10")


def test_nothing_of_it_needs_torch(bundle):
    code = """
import json, sys
sys.modules |= {"torch": None, "torchvision": None}
from resnetlab.serving import server
from resnetlab.serving.network import Source
from resnetlab.serving.settings import Settings
make = server.MakeApp(
    source=Source(network=sys.argv[1]), settings=Settings(), token=None, hosts=None, examples=None
)
print(json.dumps([type(make()).__name__, Source(network=sys.argv[1]).load().name]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, bundle], capture_output=True, text=True, check=True
    )
    guard, name = json.loads(done.stdout)
    assert guard == "Guard"
    assert name.startswith("ONNX Runtime")
