"""The engine, against the predictor that it stands on."""

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import nn

from resnetlab.compute.machine import keep_memory, return_memory
from resnetlab.errors import UserError
from resnetlab.inference.backends import TorchBackend
from resnetlab.inference.predictor import Predictor
from resnetlab.models.resnet import create_model
from resnetlab.preprocessing import Preprocessing
from resnetlab.serving.engine import Engine
from resnetlab.serving.network import PredictorNetwork

from .conftest import FakeNetwork, encoded


def make_engine(model: nn.Module | None = None, **changes):
    preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=32, resize=36)
    backend = TorchBackend(
        model=(model or create_model("resnet20")).eval(),
        classes=tuple("abcdefghij"),
        preprocessing=preprocessing,
        **changes,
    )
    predictor = Predictor(backend)
    return predictor, Engine(PredictorNetwork(predictor))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_probabilities_are_the_predictors(pictures, temperature):
    predictor, engine = make_engine(temperature=temperature)
    answers = engine.compute([engine.read(data) for data in pictures])
    for answer, prediction in zip(answers, predictor.predict(pictures, topk=10), strict=True):
        named = dict(zip(predictor.backend.classes, 100 * answer.probabilities, strict=True))
        assert named == pytest.approx(dict(prediction.top), rel=1e-5)


def test_heat_maps_are_of_the_likeliest_class_and_from_0_to_1(pictures):
    predictor, engine = make_engine()
    assert engine.gives_heat_maps
    wanted = [engine.read(data, heat_map=i % 2 == 0) for i, data in enumerate(pictures)]
    answers = engine.compute(wanted)
    for i, (answer, picture) in enumerate(zip(answers, wanted, strict=True)):
        assert (answer.heat_map is None) == (i % 2 == 1)
        if answer.heat_map is not None:
            label = torch.tensor([answer.probabilities.argmax()])
            (raw,) = predictor.backend.class_maps(torch.from_numpy(picture.pixels[None]), label)
            expected = raw.clamp(min=0).numpy()
            np.testing.assert_allclose(answer.heat_map * expected.max(), expected, atol=1e-4)
            assert answer.heat_map.max() in (pytest.approx(1), 0)


@pytest.mark.parametrize(
    ("width", "height", "orientation", "box"),
    [
        (360, 360, 1, (2 / 36, 2 / 36, 34 / 36, 34 / 36)),
        (720, 360, 1, (20 / 72, 2 / 36, 52 / 72, 34 / 36)),
        (720, 360, 6, (2 / 36, 20 / 72, 34 / 36, 52 / 72)),
    ],
)
def test_the_box_is_what_the_network_sees(width, height, orientation, box):
    _, engine = make_engine()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (width, height)), "JPEG", exif=exif)
    assert engine.read(data, heat_map=True).box == pytest.approx(box)


def test_a_network_without_maps_gives_none():
    engine = Engine(FakeNetwork())
    assert not engine.gives_heat_maps


def test_outputs_that_are_not_finite_are_of_one_image_alone():
    engine = Engine(FakeNetwork())
    good, bad = engine.compute([engine.read(bytes([100])), engine.read(bytes([254]))])
    assert good.probabilities == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
    assert bad.probabilities is None


def test_what_is_no_image_is_a_sentence_without_a_path():
    _, engine = make_engine()
    with pytest.raises(UserError, match=r"^cannot read the image: not an image"):
        engine.read(b"no image")


def test_the_memory_of_a_large_image_is_given_back():
    """120 MB of pixels, in a process that keeps what it frees."""
    _, engine = make_engine()
    file = encoded(Image.new("RGB", (8000, 5000), (200, 120, 40)), "PNG", compress_level=1)
    keep_memory()
    return_memory()
    process = psutil.Process()
    before = process.memory_info().rss
    engine.read(file)
    assert process.memory_info().rss - before < 40e6
