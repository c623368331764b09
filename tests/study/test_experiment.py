"""A study from its first run to its figure, with real trainings."""

import csv
import json
import shutil
import signal
import time
from dataclasses import replace

import pytest

from resnetlab.runs import Run
from resnetlab.study.experiment import run_study

SHORT = ("--execution", "plain", "--seeds", 2, "--jobs", 2)


def test_interrupted_and_resumed_as_a_whole(start, resnetlab, samples, tmp_path, assert_png):
    out = tmp_path / "study"
    words = ("study", "seeds", "smoke", *SHORT, "--data-dir", samples, "--out", out)
    process = start(*words, "--epochs", 3)
    runs = [Run(out / f"smoke-seed{seed}") for seed in (0, 1)]
    while not all((run.path / "metrics.jsonl").exists() for run in runs):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Go on with the same command" in said
    assert all(1 <= len(run.metrics) < 3 and run.result is None for run in runs)
    begun = [run.metrics[0] for run in runs]

    listed = resnetlab(*words, "--list")
    assert listed.out.splitlines() == [run.resume_command() for run in runs]
    drawn = resnetlab(*words, "--draw")
    assert (drawn.code, drawn.out) == (0, "")
    assert "0 of 2 runs are finished" in drawn.err

    # One run can no longer go on: it is named, and the other is finished.
    for name in ("last.pt", "previous.pt"):
        (runs[0].path / name).write_bytes(b"damaged")
    answer = resnetlab(*words)
    assert answer.code == 1
    assert runs[1].metrics[0] == begun[1]  # its first epoch was not trained again
    error = 100 - runs[1].result["top1"]
    assert f"smoke-seed1: test error {error:.2f} %" in answer.err
    assert "smoke-seed0: " in answer.err
    assert "last.pt is damaged" in answer.err
    assert str(out / "smoke-seed0.log") in answer.err
    assert "1 of 2 runs are finished" in answer.err
    assert str(out / "seeds-smoke.png") in answer.out
    assert_png(out / "seeds-smoke.png")
    (row,) = csv.DictReader((out / "seeds-smoke.csv").read_text().splitlines())
    assert (row["variant"], row["n"]) == ("smoke", "1")
    assert float(row["test_error"]) == pytest.approx(error)

    # Without that run nothing is left to train, and nothing is touched.
    shutil.copytree(runs[1].path, runs[0].path, dirs_exist_ok=True)
    runs[0].write_recipe(replace(runs[0].recipe, seed=0))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    again = run_study("seeds", recipe="smoke", out=out, data_dir=samples)
    assert (again.planned, again.finished, again.failures) == (2, 2, ())
    assert [row.n for row in again.rows] == [2]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}


def test_bad_input_is_a_sentence(resnetlab, tmp_path):
    (tmp_path / "file").write_text("")
    for words, wanted in (
        (["stem", "--budget", "soon"], "--budget must be a time"),
        (["stem", "--execution", "bf17"], "--execution has no word 'bf17'"),
        (["stem", "--out", tmp_path / "file"], "is a file; name a folder"),
        (["stems"], "no study 'stems'; did you mean 'stem'"),
        (["seeds"], "RECIPE"),
        (["stem", "--jobs", 0], "--jobs must be at least 1"),
    ):
        answer = resnetlab("study", *words)
        assert (answer.code, answer.out) == (2, "")
        assert wanted in answer.err
        assert answer.err.count("\n") == 1


def test_a_list_settles_the_study(resnetlab, tmp_path):
    words = ["study", "shortcuts", "--epochs", 2, "--seeds", 1, "--list", "--out", tmp_path]
    answer = resnetlab(*words)
    settled = json.loads((tmp_path / "study.json").read_text())
    assert settled == {"study": "shortcuts", "epochs": 2, "seeds": 1}
    assert len(answer.out.splitlines()) == 3
    assert answer.code == 0
