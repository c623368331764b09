"""What `resnetlab runs` tells of runs in every state."""

import json
import platform
import shutil
import time

import pytest

from resnetlab.errors import UserError
from resnetlab.runs import Run
from resnetlab.training.overview import list_runs


@pytest.fixture
def runs(smoke, tiny, tmp_path):
    shutil.copytree(smoke.run, tmp_path / "deep" / "finished")
    tiny.interrupted("stopped", epochs=4, checkpoint_minutes=0)
    shutil.copytree(tmp_path / "stopped", tmp_path / "damaged")
    (tmp_path / "damaged" / "recipe.json").write_text("{")
    shutil.copytree(tmp_path / "stopped", tmp_path / "elsewhere")
    Run(tmp_path / "elsewhere").tell_progress(
        {"step": 5, "steps_per_epoch": 3, "seconds_left": 61, "host": "b", "time": time.time()}
    )
    return tmp_path


def test_each_state_is_known(runs, smoke):
    with Run(runs / "stopped").training():
        found = {run.path.name: run for run in list_runs(runs)}
        assert found["stopped"].state == "running"
    found = {run.path.name: run for run in list_runs(runs)}
    states = {name: run.state for name, run in found.items()}
    assert states == {
        "finished": "finished",
        "stopped": "stopped",
        "damaged": "damaged",
        "elsewhere": "running",
    }
    done = found["finished"]
    assert (done.epoch, done.epochs, done.test_top1) == (6, 6, smoke.test.top1)
    assert done.val_top1 == Run(smoke.run).best.metrics["val_top1"]
    assert found["stopped"].host == platform.node()
    assert (found["elsewhere"].epoch, found["elsewhere"].seconds_left) == (pytest.approx(5 / 3), 61)
    assert "recipe.json is damaged" in found["damaged"].fault


def test_a_run_elsewhere_that_tells_nothing_any_more_is_stopped(runs):
    run = Run(runs / "elsewhere")
    run.tell_progress(run.progress | {"time": time.time() - 1000})
    (found,) = [each for each in list_runs(runs) if each.path == run.path]
    assert found.state == "stopped"


def test_the_command_prints_a_table_and_json(runs, resnetlab):
    answer = resnetlab("runs", runs)
    assert answer.code == 0
    (line,) = [line for line in answer.out.splitlines() if "deep/finished" in line]
    assert line.split()[1:3] == ["finished", "6/6"]
    assert f"{runs}/damaged/recipe.json is damaged" in answer.err
    values = json.loads(resnetlab("runs", runs, "--json").out)
    assert {each["state"] for each in values} == {"finished", "stopped", "damaged", "running"}
    with pytest.raises(UserError, match="there is no folder"):
        list_runs(runs / "none")
