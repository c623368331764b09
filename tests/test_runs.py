import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnetlab import runs
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.models.resnet import create_model
from resnetlab.preprocessing import Preprocessing
from resnetlab.recipes.table import get_recipe
from resnetlab.runs import Run
from resnetlab.weights.card import FIELDS
from resnetlab.weights.checkpoint import Checkpoint, load_checkpoint
from resnetlab.weights.digest import digest

FILES = {"recipe.json", "metrics.jsonl", "last.pt", "best.pt", "test.json", "curves.png"}
FILES |= {".lock", "previous.pt", "evaluation.json"}
COLUMNS = {"epoch", "step", "lr", "train_loss", "train_top1", "val_loss", "val_top1"}
COLUMNS |= {"images_per_second", "seconds", "peak_memory_mb"}
READERS = (
    lambda folder: Run(folder).best,
    lambda folder: Run(folder).metrics,
    lambda folder: Run(folder).recipe,
)


def test_a_run_folder_holds_what_is_promised_and_no_litter(smoke):
    assert {path.name for path in smoke.run.iterdir()} == {*FILES, "tensorboard"}


def test_metrics_have_a_line_for_each_epoch(smoke):
    lines = Run(smoke.run).metrics
    assert lines == smoke.history
    assert [(line["epoch"], line["step"]) for line in lines] == [(i, 3 * i) for i in range(1, 7)]
    for line in lines:
        assert line.keys() >= COLUMNS
        assert all(math.isfinite(value) for value in line.values())
        assert line["images_per_second"] == pytest.approx(192 / line["seconds"])
        assert line["peak_memory_mb"] > 100
        # percentages of 192 and of 100 images
        assert line["train_top1"] * 1.92 == pytest.approx(round(line["train_top1"] * 1.92))
        assert line["val_top1"] == round(line["val_top1"])


def test_tensorboard_shows_the_same_numbers(smoke):
    events = EventAccumulator(str(smoke.run / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == COLUMNS - {"epoch", "step"}
    for name in events.Tags()["scalars"]:
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(line["step"], pytest.approx(line[name])) for line in smoke.history]


def test_curves_are_a_picture(smoke):
    with Image.open(smoke.run / "curves.png") as image:
        image.load()
        assert image.width > 800


def test_the_recipe_comes_back(smoke, samples):
    recipe = Run(smoke.run).recipe
    changes = {"epochs": 6, "ema_decay": 0.8, "execution": recipe.execution}
    assert recipe == get_recipe("smoke", data_dir=str(samples), **changes)


def test_plain_values_and_tensors_only(smoke):
    for name in ("last.pt", "best.pt"):
        assert torch.load(smoke.run / name, weights_only=True)


@pytest.mark.parametrize(
    ("lines", "best"),
    [
        ([(50.0, 1.0), (60.0, 2.0), (40.0, 0.5)], 1),
        ([(50.0, 1.0), (50.0, 0.9), (50.0, 1.1)], 1),
        ([(50.0, 1.0), (50.0, 1.0)], 1),
        ([(None, None)] * 3, 2),
    ],
)
def test_the_best_epoch_is_that_of_accuracy_then_loss_then_the_latest(lines, best):
    metrics = [{"val_top1": top1, "val_loss": loss} for top1, loss in lines]
    assert runs.best_epoch(metrics) == best


def test_best_is_the_best_epoch_by_validation(smoke):
    best = max(smoke.history, key=lambda line: (line["val_top1"], -line["val_loss"]))
    checkpoint = Run(smoke.run).best
    assert checkpoint.metrics == best
    assert not checkpoint.build().training
    assert (checkpoint.dataset, checkpoint.preprocessing.size) == ("cifar10-sample", 32)
    assert checkpoint.recipe == Run(smoke.run).recipe.to_dict()
    assert len(checkpoint.classes) == checkpoint.architecture.num_classes == 10


def test_the_test_result_is_the_same_again_and_in_another_place(smoke, tmp_path):
    said = json.loads((smoke.run / "test.json").read_text())
    assert (said["n"], said["split"]) == (100, "test")
    assert evaluate(smoke.run).to_dict() == said
    moved = shutil.copytree(smoke.run, tmp_path / "else where" / "renamed")
    assert evaluate(moved).to_dict() == said
    assert evaluate(str(moved / "best.pt")).to_dict() == said


def checkpoint(**changes):
    torch.manual_seed(0)
    model = create_model("resnet20", num_classes=3, in_channels=1).eval()
    values = {"architecture": model.architecture, "weights": model.state_dict()}
    values["classes"] = ("a", "b", "ç")
    values["preprocessing"] = Preprocessing(
        mean=(0.5,), std=(0.25,), size=28, resize=32, crop="squash", interpolation="bicubic"
    )
    return Checkpoint(dataset="mine", temperature=1.5, **values | changes)


def test_a_checkpoint_comes_back_to_the_bit(tmp_path):
    one = checkpoint(metrics={"val_top1": 12.5, "val_loss": None}, recipe={"lr": 0.1})
    one.save(tmp_path / "best.pt")
    two = load_checkpoint(tmp_path / "best.pt")
    for name in FIELDS:
        assert getattr(two, name) == getattr(one, name)
    assert not two.guessed
    images = torch.randn(2, 1, 28, 28)
    with torch.inference_mode():
        assert torch.equal(one.build()(images), two.build()(images))


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_damaged_best_is_named(tmp_path, content):
    path = tmp_path / "best.pt"
    checkpoint().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        load_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    assert "This is an inter" not in str(error.value)  # half of torch's second sentence


def same(one, two):
    """Whether two contents are the same to the bit."""
    return digest(one) == digest(two)


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "recipe.json"])
def test_no_flipped_bit_passes(tiny, name):
    """500 files with a bit flipped, and 50 cut off: a sentence that names the file, or no change.

    Of zip files, the checksums do not cover the directory, which decides what torch reads.
    """
    run = Run(tiny.interrupted(epochs=4, name="x") if name != "best.pt" else tiny.train().run)
    path = run.path / name

    def read():
        if name == "recipe.json":
            return run.recipe.to_dict()
        if name == "last.pt":
            return run.last
        best = run.best
        return [dict(best.weights), best.classes, best.metrics, best.recipe, repr(best)]

    whole, content, draw = path.read_bytes(), read(), random.Random(0)
    refused = []
    # torch's directory lies at the end of the file
    bits = [draw.randrange(8 * len(whole)) for _ in range(350)]
    bits += [8 * len(whole) - 1 - draw.randrange(8 * min(len(whole), 8000)) for _ in range(150)]
    for bit in [*bits, *range(-50, 0)]:
        damaged = bytearray(whole)
        if bit < 0:
            del damaged[draw.randrange(len(whole)) :]
        else:
            damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read()
        except UserError as error:
            refused.append(str(error))
        else:
            assert same(found, content), f"bit {bit} of {path}"
    assert len(refused) > 300
    for sentence in refused:
        assert str(path) in sentence
        assert "\n" not in sentence


def test_the_state_before_the_last_is_gone_on_from_where_the_last_is_damaged(tmp_path):
    run, said = Run(tmp_path), []
    for step in (1, 2, 3):
        run.states.write({"step": step})
    assert run.states.latest(said.append) == {"step": 3}
    assert said == []
    run.states.last_file.write_bytes(run.states.last_file.read_bytes()[:-30])
    assert run.states.latest(said.append) == {"step": 2}
    assert re.fullmatch(r".*last\.pt is damaged .*; going on from the state before it, p.*", *said)
    run.states.write({"step": 4})  # the damaged file does not push the whole one out
    run.states.last_file.unlink()
    assert run.states.latest(said.append) == {"step": 2}
    assert said[1].endswith("last.pt is not there: going on from the state before it, previous.pt")
    run.states.last_file.write_bytes(b"")
    run.states.previous_file.write_bytes(b"")
    with pytest.raises(UserError, match=r"last\.pt is damaged .*, and so is previous.*remove both"):
        run.states.latest(said.append)
    assert Run(tmp_path / "none").states.latest(said.append) is None


def test_a_recipe_that_was_changed_by_hand_is_noticed(smoke, tmp_path):
    run = Run(shutil.copytree(smoke.run, tmp_path / "a b"))
    path = run.path / "recipe.json"
    path.write_text(path.read_text().replace("  ", " "))  # no change
    assert run.recipe == Run(smoke.run).recipe
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lr": 0.5}))
    with pytest.raises(UserError, match=r"changed by hand.*resume '.*/a b' --accept-changes"):
        _ = run.recipe
    assert run.read_recipe()[0].lr == 0.5


CREATE = """
import os, sys, time
from resnetlab.runs import Run
os.chdir(sys.argv[1])
for line in sys.stdin:  # the moment at which all of them begin
    while time.time() < float(line):
        pass
    print(Run.create("smoke").path, flush=True)
"""


def test_processes_that_start_at_once_get_folders_of_their_own(start, tmp_path):
    program = (sys.executable, "-c", CREATE)
    processes = [start(tmp_path, program=program, stdin=subprocess.PIPE) for _ in range(4)]
    rounds = 30
    for _ in range(rounds):
        moment = time.time() + 0.02
        for process in processes:
            process.stdin.write(f"{moment}\n")
            process.stdin.flush()
        for process in processes:
            process.names = [*getattr(process, "names", []), process.stdout.readline()]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    names = [name for process in processes for name in process.names]
    assert len(set(names)) == len(names) == 4 * rounds


@pytest.mark.parametrize("use", [Run, lambda value: Run.create("smoke", value)])
def test_what_is_no_path_is_a_sentence(use):
    for value in (123, None, ["runs"]) if use is Run else (5,):
        with pytest.raises(UserError, match=r"^`(run|out)` must be a path, not"):
            use(value)
    with pytest.raises(UserError, match=r"^`(run|out)` ~nobody-here/x"):
        use("~nobody-here/x")


def test_a_home_is_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run("~/runs/x").path == tmp_path / "runs" / "x"


def test_a_folder_without_a_run_is_named(tmp_path):
    for read in READERS:
        with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
            read(tmp_path)


@pytest.mark.parametrize(
    ("name", "read"), list(zip(("metrics.jsonl", "recipe.json"), READERS[1:], strict=True))
)
@pytest.mark.parametrize("content", [b'{"epoch": 1}\n{"epo', b"\xff\xfe", b"{'lr': 1}"])
def test_damaged_text_is_named(tmp_path, name, read, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["[]", "5", '{"lr": "fast"}', '{"lrr": 1}', '{"lr": -1}'])
def test_a_recipe_that_is_none_is_named(tmp_path, content):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=r"recipe\.json is damaged"):
        _ = Run(tmp_path).recipe


def test_new_runs_take_the_first_free_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(Run.create("smoke").path) for _ in range(3)] == [
        "runs/smoke",
        "runs/smoke-2",
        "runs/smoke-3",
    ]
    assert Run.create("smoke", "a/b").path == Path("a/b")
    assert Run.create("smoke", "a/b").path == Path("a/b")  # an empty folder is free
    (tmp_path / "a/b/recipe.json").touch()
    with pytest.raises(ValueError, match=r"a/b already holds a run.*resnetlab resume a/b"):
        Run.create("smoke", "a/b")
    with pytest.raises(ValueError, match=r"cannot write to `out` a/b/recipe\.json/c: Not a dir"):
        Run.create("smoke", "a/b/recipe.json/c")


@pytest.mark.parametrize("command", ["resume {run}", "train smoke --data-dir {data} --out {run}"])
def test_a_run_that_is_being_trained_is_left_alone(resnetlab, smoke, samples, tmp_path, command):
    (run := tmp_path / "run").mkdir()
    if command.startswith("resume"):  # in the other case no recipe is written yet
        shutil.copy(smoke.run / "recipe.json", run)
    with Run(run).training():
        before = list(run.iterdir())
        answer = resnetlab(*command.format(run=run, data=samples).split())
    said = f"resnetlab: {run} is being trained by another process; wait for its end or stop it "
    assert (answer.code, answer.out, answer.err) == (2, "", f"{said}first.\n")
    assert list(run.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    # every temporary file lies on a device without room
    handle = os.open(tmp_path / "room", os.O_CREAT | os.O_RDWR)

    def make(dir, prefix, suffix):
        path = Path(dir) / f"{prefix}x{suffix}"
        path.symlink_to("/dev/full")
        return os.dup(handle), str(path)

    monkeypatch.setattr("resnetlab.files.tempfile.mkstemp", make)
    for path, write in (
        (tmp_path / "last.pt", lambda _: Run(tmp_path).states.write({"x": torch.zeros(100_000)})),
        (tmp_path / "best.pt", checkpoint().save),
    ):
        with pytest.raises(ValueError, match=f"cannot write {path}.*free some space"):
            write(path)
        assert not path.exists()
    os.close(handle)


def test_files_of_a_later_version_are_refused_in_a_sentence(smoke, tmp_path):
    run = Run(shutil.copytree(smoke.run, tmp_path / "run"))
    for name, read in (("recipe.json", lambda: run.recipe), ("last.pt", lambda: run.last)):
        path = run.path / name
        if name == "last.pt":
            torch.save({**torch.load(path, weights_only=True), "format": 99}, path)
        else:
            path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
        with pytest.raises(UserError, match="later version"):
            read()
    best = torch.load(run.best_file, weights_only=True)
    torch.save(best | {"format": 99}, run.best_file)
    with pytest.raises(UserError, match="format 99"):
        _ = run.best


def test_a_folder_of_the_first_version_is_read(smoke, tmp_path):
    """Before formats had numbers: no "format", and three fields for the preprocessing."""
    run = Run(shutil.copytree(smoke.run, tmp_path / "run"))
    now = run.best
    for path in (run.best_file, run.states.last_file):
        values = torch.load(path, weights_only=True)
        del values["format"]
        values.pop("digest", None)
        if old := values.pop("preprocessing", None):
            values |= {"mean": old["mean"], "std": old["std"], "image_size": old["size"]}
            del values["temperature"]
        torch.save(values, path)
    recipe = json.loads((run.path / "recipe.json").read_text())
    del recipe["format"], recipe["digest"]
    (run.path / "recipe.json").write_text(json.dumps(recipe))
    assert run.best.preprocessing == now.preprocessing
    assert run.best.temperature == 1
    assert run.recipe == Run(smoke.run).recipe
    assert run.last.keys() == Run(smoke.run).last.keys()
    found, tested = evaluate(run.path), smoke.test  # whose confidence has a temperature
    for name in ("n", "top1", "top5", "loss"):
        assert getattr(found, name) == getattr(tested, name)
    assert found.confusion.equal(tested.confusion)
