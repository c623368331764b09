"""``resnetlab predict``."""

import json
import os
import re
import threading

import pytest
from PIL import Image

from resnetlab.cli import predictions
from resnetlab.data.catalogue import load_dataset
from resnetlab.inference.predictor import Predictor


def test_predict(resnetlab, smoke, samples, tmp_path):
    data = load_dataset("cifar10-sample", "test", data_dir=samples)
    for i in range(3):
        Image.fromarray(data.images[i].permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    words = ("predict", smoke.run, tmp_path, "--format", "json", "--topk", 2)
    answer = resnetlab(*words, "--execution", "plain")
    assert answer.code == 0
    rows = json.loads(answer.out)
    assert json.loads(resnetlab(*words, "--execution", "bf16").out) != rows
    assert [row["image"] for row in rows] == [str(tmp_path / f"{i}.png") for i in range(3)]
    assert all(len(row["predictions"]) == 2 for row in rows)
    (tmp_path / "1.png").write_text("text")
    answer = resnetlab("predict", smoke.run, tmp_path, "--format", "csv", "--topk", 1)
    assert answer.code == 1
    assert len(answer.out.splitlines()) == 1 + 2
    assert answer.err.splitlines()[-1].startswith(f"cannot read {tmp_path / '1.png'}: not an image")


@pytest.fixture
def folder(samples, tmp_path):
    """600 images: three batches."""
    data = load_dataset("cifar10-sample", "test", data_dir=samples)
    (tmp_path / "images").mkdir()
    for i in range(600):
        pixels = data.images[i % 100].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i:03}.png", compress_level=1)
    return tmp_path / "images"


@pytest.fixture
def wait_after_the_first_batch(monkeypatch):
    """Holds the network back from its second batch until the event that is returned is set."""
    go, logits, done = threading.Event(), Predictor.logits, []

    def wait(self, images):
        if done:
            assert go.wait(30)
        done.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(Predictor, "logits", wait)
    return go


def test_the_first_batch_is_printed_before_the_second_is_computed(
    resnetlab, smoke, folder, wait_after_the_first_batch, monkeypatch
):
    write = predictions._write
    rows = []

    def note(text):
        rows.append(text)
        if len(rows) == 1 + 256:  # the header, and a row for each image
            wait_after_the_first_batch.set()
        write(text)

    monkeypatch.setattr(predictions, "_write", note)
    answer = resnetlab("predict", smoke.run, folder, "--format", "csv", "--topk", 1)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 1 + 600


@pytest.mark.parametrize("format", ["json", "csv", "table"])
def test_ctrl_c_keeps_what_was_printed(resnetlab, smoke, folder, monkeypatch, format):
    logits, done = Predictor.logits, []

    def stop(self, images):
        if done:
            raise KeyboardInterrupt
        done.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(Predictor, "logits", stop)
    answer = resnetlab("predict", smoke.run, folder, "--format", format, "--topk", 1)
    assert (answer.code, answer.err) == (130, "resnetlab: stopped.\n")
    if format == "json":
        assert len(json.loads(answer.out)) == 256
    else:
        assert len(answer.out.splitlines()) == 256 + {"csv": 1, "table": 2}[format]


@pytest.mark.parametrize("format", ["json", "table"])
def test_a_terminal_shows_progress_and_a_pipe_gets_none_of_it(start, smoke, folder, format):
    ours, theirs = pytest.importorskip("pty").openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    process = start(
        *("predict", smoke.run, folder, "--format", format), stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = []

    def read():
        try:
            while part := os.read(ours, 1000):
                shown.append(part)
        except OSError:  # how Linux says that the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=60)
    reader.join(10)
    os.close(ours)
    text = re.sub(r"\x1b\[[\d;]*m", "", b"".join(shown).decode())
    assert process.returncode == 0, text
    assert "predicting" in text
    assert "600/600" in text
    assert "\x1b" not in out
    if format == "json":
        assert len(json.loads(out)) == 600
    else:
        assert len(out.splitlines()) == 2 + 600


def test_what_is_not_predicted_is_said_on_stderr(resnetlab, smoke, tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("a.heic", "b.HEIC", "c.txt", "\x1b[31m.\x1b[31m"):
        (tmp_path / name).touch()
    words = ("predict", smoke.run, tmp_path, "https://x.org/y.png", "--format", "json")
    answer = resnetlab(*words)
    assert answer.code == 1
    rows = json.loads(answer.out)
    assert [bool(row["predictions"]) for row in rows] == [False, True, False]
    assert rows[2]["image"] == "https://x.org/y.png"
    assert answer.err.splitlines() == [
        f"{tmp_path}: left out 4 files of other kinds: .heic 2, .\\x1b[31m 1, .txt 1",
        f"cannot read {tmp_path}/pipe.png: it is a named pipe, not a file",
        "cannot read https://x.org/y.png: images are not fetched from the network; "
        "download it and name the file",
    ]


def test_outputs_that_are_not_finite_are_no_answer(resnetlab, smoke, tmp_path, monkeypatch):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    logits = Predictor.logits
    monkeypatch.setattr(Predictor, "logits", lambda self, x: logits(self, x) * float("nan"))
    answer = resnetlab("predict", smoke.run, tmp_path / "red.png", "--format", "csv")
    assert (answer.code, answer.out) == (1, "image,rank,class,probability,none_of_these\n")
    assert answer.err == f"the network's outputs for {tmp_path}/red.png are not finite\n"
