"""Several processes that train together, one of which fails."""

import contextlib
import json
import os
import signal
import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from resnetlab.evaluation.evaluate import evaluate
from resnetlab.runs import Run

LONG = os.environ.get("RESNETLAB_FAULTS") == "long"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")


def curve(run):
    return [line["train_loss"] for line in Run(run).metrics]


@pytest.mark.parametrize("processes", [2, 3])
def test_a_killed_process_is_named_and_the_run_goes_on_to_the_bit(
    server, changes, tmp_path, tiny, processes
):
    changes |= {"epochs": 3, "batch_size": 60, "ema_decay": 0.8}
    server.timed(tmp_path / "whole", changes, processes=processes)
    begun = len(server.said())
    fault = {"rank": 1, "step": 5, "fault": "killed"}
    began = time.monotonic()
    ends = server.run(tmp_path / "broken", changes, processes=processes, **fault)
    assert time.monotonic() - began < 60
    assert ends == [1, -9, *[1] * (processes - 2)]
    said = server.said()[begun:]
    assert "Traceback" not in said
    for rank in {*range(processes)} - {1}:
        (line,) = [line for line in said.splitlines() if f"resnetlab, process {rank} of" in line]
        assert f": process 1 of {processes} on " in line
        assert line.endswith(
            f"is gone: it was killed, or its machine failed. Go on with: resnetlab resume "
            f"{tmp_path / 'broken'}"
        )
    assert Run(tmp_path / "broken").last["step"] == 4
    server.timed(tmp_path / "broken", changes, processes=processes)
    assert tiny.contents(tmp_path / "broken") == tiny.contents(tmp_path / "whole")


def process_of(agent, rank):
    """The number of the process that torchrun has started last as this rank."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return int(
        next(
            child
            for child in reversed(children)
            if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text()
        )
    )


def step_of(run):
    with contextlib.suppress(ValueError):  # before the first checkpoint, or just between two
        return Run(run).last["step"]
    return 0


def test_torchrun_starts_a_killed_run_again_and_it_ends_with_the_same_bits(
    start, server, changes, tmp_path, tiny
):
    """``--max-restarts``, the same command line: rank 1 is killed with -9, then perhaps rank 0."""
    overrides = {"depths": "1,1,1", "widths": "8,16,16"}  # as a command line states them
    changes |= {"epochs": 40, "ema_decay": 0.8, "model_overrides": overrides}
    server.timed(tmp_path / "whole", changes, processes=2)
    run = tmp_path / "broken"
    words = ["train", "smoke", "--out", run, "--resume-if-exists"]
    for name, value in changes.items():
        values = chain(*value.items()) if name == "model_overrides" else [value]
        words += [f"--{name.replace('_', '-')}", *values]
    job = start(*words, program=(*TORCHRUN, "--max-restarts", 2, "-m", "resnetlab"))
    kills = ((1, 31), (0, 62)) if LONG else ((1, 31),)
    for rank, step in kills:
        end = time.monotonic() + 120
        while step_of(run) < step:
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(process_of(job.pid, rank), signal.SIGKILL)
    _, said = job.communicate(timeout=180)
    assert job.returncode == 0, said
    assert said.count("resuming after step") == len(kills)
    assert tiny.contents(run) == tiny.contents(tmp_path / "whole")


def test_processes_share_the_work_of_one(server, changes, tmp_path):
    """With batch norm over all images the curves differ by rounding alone."""
    changes |= {"epochs": 3, "batch_size": 60, "sync_batchnorm": "on", "lr": 0.01}
    changes |= {"flip": "random", "cutout": 8}
    for processes in (1, 2, 3):
        server.timed(tmp_path / f"{processes}", changes, processes=processes)
    server.timed(tmp_path / "3", changes, processes=3, evaluate=True)
    one = evaluate(tmp_path / "3").to_dict()
    for rank in range(3):
        shared = json.loads((tmp_path / "3" / f"{rank}.json").read_text())
        assert shared["n"] == 100
        assert shared["confusion"] == one["confusion"]
        assert shared["loss"] == pytest.approx(one["loss"])
    assert len((tmp_path / "3" / "images.csv").read_text().splitlines()) == 101
    server.timed(tmp_path / "own", changes | {"sync_batchnorm": "off"}, processes=3)
    one = curve(tmp_path / "1")
    for processes in (2, 3):
        assert curve(tmp_path / f"{processes}") == pytest.approx(one, rel=1e-4)
    own = curve(tmp_path / "own")
    assert own != pytest.approx(one, rel=1e-4)
    assert own == pytest.approx(one, rel=0.05)  # what batch norm of 20 images explains
    # Another number of processes goes on with the same images, if that is accepted.
    assert "was trained by 3 and is resumed by 1" in said_of(server, tmp_path / "own", {})
    ends = server.run(tmp_path / "3", {}, resume={"epochs": 4, "accept_changes": True})
    assert ends == 0, server.said()
    assert "trained by 3 process(es) and going on in 1: with the same images" in server.said()


def said_of(server, run, changes):
    begun = len(server.said())
    assert server.run(run, changes, resume={"epochs": 4}) == 2
    return server.said()[begun:]


def test_too_little_memory_is_said_by_whichever_process_has_it(server, changes, tmp_path):
    begun = len(server.said())
    fault = {"rank": 1, "step": 2, "fault": "memory"}
    ends = server.run(tmp_path / "run", changes | {"epochs": 2}, processes=2, **fault)
    assert ends[1] == 2
    assert ends[0] == 1
    said = server.said()[begun:]
    assert said.count("the memory does not suffice for `batch_size` 64") == 1
    assert "resnetlab, process 1 of 2 on " in said
    assert "Traceback" not in said
