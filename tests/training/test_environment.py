"""Settings that other code in the process has changed."""

import pytest
import torch
from PIL import Image

from resnetlab.environment import torch_defaults
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.inference.predictor import Predictor, predict
from resnetlab.runs import Run
from resnetlab.training.job import resume


@pytest.fixture(params=["float64", "bfloat16", "meta", "no gradients"])
def changed(request):
    """The process as somebody else has left it; a function that tells whether it still is."""
    if request.param == "meta":
        torch.set_default_device("meta")
    elif request.param == "no gradients":
        torch.set_grad_enabled(False)
    else:
        torch.set_default_dtype(getattr(torch, request.param))

    def settings():
        return torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()

    before = settings()
    yield lambda: settings() == before
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)


def test_everything_is_as_usual_within_and_as_it_was_after(changed):
    with torch_defaults():
        x = torch.ones(2)
        assert (x.dtype, x.device.type, torch.is_grad_enabled()) == (torch.float32, "cpu", True)
    assert changed()


def test_trainings_are_the_same(tiny, tmp_path, changed):
    run = tiny.interrupted("changed")
    resume(run)
    assert changed()
    found = tiny.contents(run)
    with torch_defaults():
        wanted = tiny.contents(tiny.train("usual").run)
    assert found == wanted


def test_evaluations_and_predictions_are_the_same(smoke, changed):
    assert evaluate(smoke.run).to_dict() == Run(smoke.run).result
    image = Image.new("RGB", (40, 50), (9, 200, 3))
    found = predict(smoke.run, image), Predictor(smoke.run)(image)
    assert changed()
    with torch_defaults():
        assert found == (predict(smoke.run, image), Predictor(smoke.run)(image))
