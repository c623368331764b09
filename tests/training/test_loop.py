import json
import math
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnetlab.compute.machine import compiler
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.runs import Run
from resnetlab.states import States
from resnetlab.training.job import resume
from resnetlab.weights.checkpoint import load_checkpoint

AVERAGED = {"optimizer": "muon", "ema_decay": 0.8, "accumulate": 2, "cutmix": 1.0, "clip_norm": 5.0}


def test_the_loss_falls(smoke):
    assert smoke.history[-1]["train_loss"] < 0.95 * smoke.history[0]["train_loss"]
    assert smoke.history[-1]["train_top1"] > smoke.history[0]["train_top1"]
    assert smoke.test.top1 > 10


def test_the_best_epoch_is_kept_by_validation_alone(tiny):
    training = tiny.train(epochs=6, lr=0.3)
    best = max(training.history, key=lambda line: (line["val_top1"], -line["val_loss"]))
    assert best is not training.history[-1], "choose a recipe whose last epoch is not the best"
    assert load_checkpoint(training.run).metrics == best
    again = evaluate(training.run, split="val")
    assert (again.top1, again.n) == (best["val_top1"], 100)
    assert again.loss == pytest.approx(best["val_loss"], rel=1e-5)


def test_the_rate_of_an_epoch_is_that_of_its_last_step(tiny):
    """And not the next one's, which would be 0 after the last epoch."""
    changes = {"lr": 0.1, "schedule": "one-cycle", "warmup_epochs": 1, "epochs": 2}
    first, last = tiny.train(**changes, optimizer="muon", muon_lr=0.06).history
    assert (first["step"], last["step"]) == (3, 6)
    assert first["lr"] == pytest.approx(0.1 * (0.1 + 0.9 * 2 / 3))
    assert last["lr"] == pytest.approx(0.1 / 3)
    assert last["muon_lr"] == pytest.approx(0.06 / 3)
    (line,) = tiny.train("other", epochs=1, warmup_epochs=0, optimizer="nesterov").history
    assert line["lr"] > 0
    assert "muon_lr" not in line


# A step is the third, the last of an epoch, or one amid the second epoch.
@pytest.mark.parametrize("steps", [(2,), (3,), (1, 3, 5)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_like_an_unbroken_one_bit_for_bit(tiny, tmp_path, steps, number):
    whole = tiny.train("whole", **AVERAGED)
    with tiny.signal_after(number, *steps):
        with pytest.raises(KeyboardInterrupt) as stopped:
            tiny.train("broken", **AVERAGED)
        for _ in steps[1:]:
            with pytest.raises(KeyboardInterrupt):
                resume(tmp_path / "broken")
        training = resume(tmp_path / "broken")
    assert str(stopped.value) == (
        f"stopped after step {steps[0]} of 6; nothing is lost. "
        f"Go on with: resnetlab resume {tmp_path / 'broken'}"
    )
    assert tiny.contents(tmp_path / "broken") == tiny.contents(whole.run)
    assert tiny.comparable(training.history) == tiny.comparable(whole.history)


class Killed(BaseException):
    """What no handler catches, as kill -9."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("file", ["best.pt", "metrics.jsonl", "last.pt", "curves.png", "test.json"])
def test_a_run_killed_at_any_file_can_be_resumed(tiny, tmp_path, monkeypatch, file, late):
    whole = tiny.train("whole")
    replace, seen = Path.replace, []

    def deadly_replace(self, target):
        seen.append(Path(target).name)
        deadly = seen.count(file) == (1 if file in ("curves.png", "test.json") else 2)
        if late or not deadly:
            replace(self, target)
        if deadly and seen[-1] == file:
            raise Killed
        return target

    monkeypatch.setattr(Path, "replace", deadly_replace)
    with pytest.raises(Killed):
        tiny.train("killed")
    monkeypatch.undo()
    if (tmp_path / "killed" / "test.json").exists():
        with pytest.raises(ValueError, match=r"killed is finished; its result is in .*test\.json"):
            resume(tmp_path / "killed")
    else:
        resume(tmp_path / "killed")
    assert tiny.contents(tmp_path / "killed") == tiny.contents(whole.run)


def test_tensorboard_has_a_file_for_each_start_and_no_step_twice(tiny, tmp_path, monkeypatch):
    write = States.write

    def deadly_write(states, values):
        if values["step"] == 6:  # the second epoch has been told, and must be done again
            raise Killed
        write(states, values)

    with monkeypatch.context() as context:
        context.setattr(States, "write", deadly_write)
        with pytest.raises(Killed):
            tiny.train(epochs=3)
    # TensorBoard reads the files in the order of their seconds; the clock is set back
    monkeypatch.setattr(time, "time", lambda: 1e9)
    training = resume(tmp_path / "run")
    events = EventAccumulator(str(training.run / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("train_loss")]
    assert steps == [line["step"] for line in training.history] == [3, 6, 9]
    assert len(list((training.run / "tensorboard").iterdir())) == 2


def test_a_run_killed_before_its_first_epoch_starts_anew(tiny, tmp_path):
    whole = tiny.train("whole")
    (tmp_path / "killed").mkdir()
    shutil.copy(whole.run / "recipe.json", tmp_path / "killed")
    resume(tmp_path / "killed")
    assert tiny.contents(tmp_path / "killed") == tiny.contents(whole.run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_ends_like_an_unbroken_one(start, smoke, samples, tmp_path, tiny, number):
    run = tmp_path / "run"
    words = ("--epochs", 6, "--ema-decay", 0.8, "--data-dir", samples, "--out", run)
    words += ("--execution", "channels_last")
    process = start("train", "smoke", *words)
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    with pytest.raises(ValueError, match="is being trained by another process"):
        resume(run)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        said = re.fullmatch(
            r"resnetlab: stopped after step \d+ of 18; nothing is lost\. "
            rf"Go on with: resnetlab resume {re.escape(str(run))}",
            err.splitlines()[-1],
        )
        assert said, err
    assert not (run / "test.json").exists()
    (run / ".last-partial-x.pt").touch()  # as if it had been amid a file
    resume(run)
    assert tiny.contents(run) == tiny.contents(smoke.run)
    assert [path.name for path in run.glob(".*")] == [".lock"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"[1, 2]", None])
def test_a_damaged_file_is_named_and_what_is_whole_is_gone_on_from(tiny, tmp_path, content, capsys):
    run = Run(tiny.interrupted())
    last, recipe = run.states.last_file, run.path / "recipe.json"
    for path in (last, recipe):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content is None else content)
        if path == last:
            with pytest.raises(ValueError, match=rf"{re.escape(str(last))} is damaged.*remove it"):
                resume(run.path)
            path.write_bytes(whole)
    assert resume(run.path).history[-1]["step"] == 6
    said = capsys.readouterr().err
    assert f"{recipe} is damaged: " in said
    assert "; going on with the recipe that the state itself has" in said


def test_a_single_wrong_bit_is_noticed(tiny, tmp_path):
    path = tiny.interrupted() / "last.pt"
    weight = Run(path.parent).last["model"]["fc.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.pt is damaged"):
        resume(tmp_path / "run")


def test_the_state_of_another_recipe_is_refused(tiny, tmp_path):
    path = tiny.interrupted() / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_overrides": {}}))
    with pytest.raises(ValueError, match=r"last\.pt does not fit the recipe\.json beside it"):
        resume(tmp_path / "run")


def test_a_finished_run_and_a_strange_folder_are_not_resumed(smoke, tmp_path):
    with pytest.raises(ValueError, match="is finished"):
        resume(smoke.run)
    with pytest.raises(ValueError, match=r"holds no recipe\.json"):
        resume(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"label_smoothing": 0.1, "mixup": 0.2, "cutout": 8},
        {"cutmix": 1.0, "mixup": 1.0, "flip": "alternating", "crop_mode": "reflect"},
        {"schedule": "cosine", "optimizer": "sgd", "weight_decay_on": "all", "momentum": 0.0},
        {"schedule": "step", "milestones": (0.3, 0.6), "warmup": "constant", "flip": "none"},
        {"ema_decay": 0.9, "zero_init": "residual", "clip_norm": 0.1, "accumulate": 4},
        {"dataset": "fashion-mnist-sample", "crop_padding": 0},
        {"image_size": 24, "execution": "bf16,channels_last"},
        {"batch_size": 5000},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_recipes_run(tiny, changes):
    training = tiny.train(**changes)
    assert [line["epoch"] for line in training.history] == [1, 2]
    assert all(math.isfinite(line["val_loss"]) for line in training.history)
    checkpoint = load_checkpoint(training.run)
    assert all(bool(value.isfinite().all()) for value in checkpoint.weights.values())
    if changes.get("dataset") == "fashion-mnist-sample":
        assert checkpoint.architecture.in_channels == 1
        assert checkpoint.preprocessing.mean == pytest.approx((0.28604060,))
    assert checkpoint.preprocessing.size == changes.get(
        "image_size", 32 if checkpoint.architecture.in_channels == 3 else 28
    )


def test_without_validation_the_last_weights_are_kept(tiny):
    training = tiny.train(val_size=0)
    assert [line["val_top1"] for line in training.history] == [None, None]
    assert [line["step"] for line in training.history] == [4, 8]  # 300 images
    checkpoint = load_checkpoint(training.run)
    assert checkpoint.metrics["epoch"] == 2
    last = Run(training.run).last["model"]
    assert all(torch.equal(value, last[k]) for k, value in checkpoint.weights.items())
    with pytest.raises(ValueError, match="cifar10-sample has no validation split"):
        evaluate(training.run, split="val")


@pytest.mark.parametrize(("epochs", "steps"), [(0.34, [1]), (1.34, [3, 4]), (2, [3, 6])])
def test_a_fraction_ends_within_an_epoch(tiny, epochs, steps):
    training = tiny.train(epochs=epochs, warmup_epochs=0)
    assert [line["step"] for line in training.history] == steps
    # what was counted is what was seen
    images = 64 * (steps[-1] - (steps[-2] if len(steps) > 1 else 0))
    right = training.history[-1]["train_top1"] * images / 100
    assert right == pytest.approx(round(right))


@pytest.mark.skipif(compiler() is None, reason="torch.compile needs a C++ compiler")
def test_compiled_training(tiny):
    small = {"model_overrides": {"depths": (1,), "widths": (4,)}, "epochs": 0.4, "warmup_epochs": 0}
    training = tiny.train(execution="compile", **small)
    plain = tiny.train("plain", **small)
    assert training.history[0]["train_loss"] == pytest.approx(plain.history[0]["train_loss"], 1e-3)
    assert not any(
        "_orig_mod" in name
        for name in torch.load(training.run / "best.pt", weights_only=True)["model"]
    )


def test_a_diverged_training_says_so_and_keeps_what_was_good(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"the loss is not finite in step \d.*lower `lr`") as error:
        tiny.train(lr=1e20, warmup_epochs=0, epochs=20)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "test.json").exists()
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert not metrics.exists() or "NaN" not in metrics.read_text()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "resnet50", "model_overrides": {}, "image_size": 16}, "16 x 16 pixels are too"),
        ({"model_overrides": {"in_channels": 1}}, r"images of shape \(n, 1, height, width\)"),
        (
            {"model_overrides": {"num_classes": 7}},
            "num_classes 7 and cifar10-sample has 10",
        ),
        ({"val_size": 300}, "`val_size` 300 does not fit 300 training images"),
        ({"mean": (0.5,), "std": (0.5,)}, "have 1 channels and cifar10-sample has 3"),
        ({"crop_mode": "reflect", "crop_padding": 32}, "`crop_padding` 32 cannot be reflected"),
        ({"data_dir": "/nowhere"}, "/nowhere holds no CIFAR-10"),
        ({"execution": "bf61"}, "no word 'bf61'"),
        (
            {"epochs": 1, "warmup_epochs": 1},
            "`warmup_epochs` 1 must be less than `epochs` 1; change",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(
    tiny, tmp_path, changes, sentence
):
    with pytest.raises(ValueError, match=sentence):
        tiny.train(**changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_training_that_cannot_begin_leaves_no_run(tiny, tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="torch finds no GPU here"):
            tiny.train(execution="cuda")
    assert not (tmp_path / "run").exists()


def test_the_data_folder_is_found_from_anywhere(tiny, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(samples.parent)
    training = tiny.train(data_dir=samples.name)
    monkeypatch.chdir(tmp_path)
    assert evaluate(training.run).to_dict() == training.test.to_dict()


def test_a_second_result_with_test_time_augmentation(tiny):
    training = tiny.train(tta="flip-shift")
    result = json.loads((training.run / "test.json").read_text())
    assert result["top1"] == training.test.top1
    assert result["with_tta"] == evaluate(training.run, tta="flip-shift").to_dict()
    assert training.test_tta.loss != training.test.loss
    with pytest.raises(ValueError, match="`tta` must be one of none, flip, flip-shift"):
        evaluate(training.run, tta="mirror")
