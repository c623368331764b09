import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnetlab.training.events import Events

LINE = {"epoch": 1, "step": 3, "lr": 0.5, "val_loss": None}


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_tensorboard_reads_what_is_written(tmp_path):
    events = Events(tmp_path, 1, pytest.fail)
    events.add(LINE)
    events.add(LINE | {"step": 6, "lr": 0.25})
    assert scalars(tmp_path) == {"lr": [(3, 0.5), (6, 0.25)]}


def test_what_cannot_be_written_is_said_once(tmp_path):
    (tmp_path / "file").touch()
    said = []
    events = Events(tmp_path / "file" / "tensorboard", 1, said.append)
    events.add(LINE)
    events.add(LINE)
    (line,) = said
    assert line.startswith("TensorBoard is not told of this training any more: cannot write ")
