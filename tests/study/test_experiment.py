"""A study from its first run to its figure, with real trainings."""

import csv
import json
import signal
import time

import pytest

from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.study.experiment import plan_study, run_study
from resnetlab.training.job import train

SHORT = ("--execution", "plain", "--seeds", 2, "--jobs", 2)


def test_interrupted_and_resumed_as_a_whole(start, resnetlab, samples, tmp_path, assert_png):
    out = tmp_path / "study"
    words = ("study", "seeds", "smoke", *SHORT, "--data-dir", samples, "--out", out)
    process = start(*words, "--epochs", 4)
    runs = [Run(out / f"smoke-seed{seed}") for seed in (0, 1)]
    while not all((run.path / "metrics.jsonl").exists() for run in runs):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Go on with the same command" in said
    assert all(1 <= len(run.metrics) < 4 and run.result is None for run in runs)

    listed = resnetlab(*words, "--list")
    assert listed.out.splitlines() == [run.resume_command() for run in runs]
    drawn = resnetlab(*words, "--draw")
    assert (drawn.code, drawn.out) == (0, "")
    assert "0 of 2 runs are finished" in drawn.err

    answer = resnetlab(*words)
    assert answer.code == 0, answer.err
    results = [run.result["top1"] for run in runs]
    assert f"smoke-seed1: test error {100 - results[1]:.2f} %" in answer.err
    assert str(out / "seeds-smoke.png") in answer.out
    assert_png(out / "seeds-smoke.png")
    (row,) = csv.DictReader((out / "seeds-smoke.csv").read_text().splitlines())
    assert (row["variant"], row["n"]) == ("smoke", "2")
    assert float(row["test_error"]) == pytest.approx(100 - sum(results) / 2)
    unbroken = train(
        get_recipe("smoke", seed=1, epochs=4, execution="plain", data_dir=str(samples)),
        out=tmp_path / "unbroken",
    )
    assert unbroken.test.top1 == results[1]
    losses = [[line["train_loss"] for line in h] for h in (unbroken.history, runs[1].metrics)]
    assert losses[0] == losses[1]

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    again = resnetlab(*words)  # nothing is left to train
    assert (again.code, again.out) == (0, answer.out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}


def test_a_run_that_fails_is_named_and_the_others_go_on(samples, tmp_path):
    plan = plan_study("seeds", recipe="smoke", epochs=1, seeds=2, out=tmp_path)
    run = Run.create("x", tmp_path / "smoke-seed0")
    run.write_recipe(plan.runs[0].recipe)
    (tmp_path / "smoke-seed0" / "last.pt").write_bytes(b"damaged")
    options = {"recipe": "smoke", "execution": "plain", "data_dir": samples, "out": tmp_path}
    result = run_study("seeds", **options)
    assert (result.planned, result.finished) == (2, 1)
    (sentence,) = result.failures
    assert sentence.startswith("smoke-seed0: ")
    assert "last.pt is damaged" in sentence
    assert "smoke-seed0.log" in sentence
    assert [row.n for row in result.rows] == [1]


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
