"""Trainings on data whose splits are others than usual."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from resnetlab.data.catalogue import CATALOGUE
from resnetlab.data.sources import Source
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.runs import Run
from resnetlab.training.job import resume


@pytest.fixture
def without_test(monkeypatch, samples, tmp_path):
    """A data_dir with a data set "no-test" that has training images alone."""
    arrays = safetensors.numpy.load_file(samples / "cifar10-sample" / "train.safetensors")
    folder = tmp_path / "data" / "no-test"
    folder.mkdir(parents=True)
    (folder / "train.safetensors").write_bytes(safetensors.numpy.save(arrays))
    digests = {
        f"train_{kind}": hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        for kind, array in arrays.items()
    }
    source = Source(name="no-test", digests=digests)
    monkeypatch.setitem(CATALOGUE, "no-test", replace(CATALOGUE["cifar10"], source=source))
    return folder.parent


def test_data_without_a_test_split_trains(tiny, without_test):
    training = tiny.train(dataset="no-test", data_dir=str(without_test))
    assert training.test is None
    assert Run(training.run).result == {}
    with pytest.raises(UserError, match="is finished"):
        resume(training.run)
    assert evaluate(training.run, split="val").n == 100
    with pytest.raises(UserError, match="no-test has no test split"):
        evaluate(training.run)


def test_validation_images_may_be_a_share(tiny):
    training = tiny.train(val_size=0.1, epochs=1, warmup_epochs=0)
    assert evaluate(training.run, split="val").n == 30


def test_a_training_that_cannot_begin_leaves_nothing(tiny, tmp_path):
    with pytest.raises(UserError, match="has no field 'lrr'"):
        tiny.train(lrr=1)
    assert not list(tmp_path.iterdir())
