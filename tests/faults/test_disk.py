"""Disks that are full, read-only, or whose files are not what was written."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from resnetlab.errors import UserError
from resnetlab.runs import Run
from resnetlab.training.job import resume


@pytest.fixture
def disk(tmp_path):
    """A disk of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def at_step(number, action):
    """Do something when the optimizer has done so many steps."""
    done = 0

    def hook(*_):
        nonlocal done
        done += 1
        if done == number:
            action()

    handle = register_optimizer_step_post_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_disk_that_fills_up_costs_no_bit(tiny, disk, capsys, resnetlab):
    options = {"epochs": 3, "checkpoint_minutes": 1e-9}
    whole = tiny.train("whole", **options)
    out = disk / "run"
    with (
        at_step(4, lambda: fill(disk)),
        pytest.raises(UserError, match=r"No space left on device; free some space, and go on with"),
    ):
        tiny.train(out, **options)
    said = capsys.readouterr().err
    assert re.search(r"last\.pt: .*; the training goes on from the checkpoint before it", said)
    assert Run(out).last["step"] == 3
    with pytest.raises(UserError, match="free some space, and go on with"):
        resume(out)
    (disk / "filler").unlink()
    answer = resnetlab("resume", out)
    assert answer.code == 0, answer.err
    assert tiny.contents(out) == tiny.contents(whole.run)


def test_a_disk_that_fills_up_with_decoded_images_costs_no_bit(tiny, disk, images, capsys):
    options = {"dataset": str(images / "folder"), "data_dir": None, "val_size": 40}
    options |= {"image_size": 16, "batch_size": 16}
    whole = tiny.train("whole", **options, cache="none")
    with at_step(3, lambda: fill(disk)):
        run = tiny.train(**options, cache=str(disk)).run
    assert capsys.readouterr().err.count("cannot write to the cache") == 1
    found, wanted = tiny.contents(run), tiny.contents(whole.run)
    assert {content["last"]["recipe"].pop("cache") for content in (found, wanted)} == {
        str(disk),
        "none",
    }
    assert found == wanted


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS])
def test_a_quota_that_is_used_up_and_a_read_only_disk_are_a_sentence(
    tiny, tmp_path, monkeypatch, number
):
    def mkstemp(**options):
        raise OSError(number, os.strerror(number))

    with (
        at_step(4, lambda: monkeypatch.setattr(tempfile, "mkstemp", mkstemp)),
        pytest.raises(UserError, match=rf"{os.strerror(number)}; free some space, and go on with"),
    ):
        tiny.train()
    monkeypatch.undo()
    assert resume(tmp_path / "run").history[-1]["step"] == 6


def test_a_run_folder_that_is_deleted_comes_back(tiny, tmp_path, capsys):
    whole = tiny.train("whole")
    with (
        at_step(5, lambda: shutil.rmtree(tmp_path / "run")),
        tiny.signal_after(2, 5),
        pytest.raises(KeyboardInterrupt),
    ):
        tiny.train()
    resume(tmp_path / "run")
    assert "going on with the recipe that the state itself has" in capsys.readouterr().err
    # all but best.pt of the first epoch, whose line was as good
    assert tiny.contents(tmp_path / "run")["last"] == tiny.contents(whole.run)["last"]


def test_a_disk_that_gives_back_something_else_keeps_the_state_before(tiny, tmp_path, monkeypatch):
    tiny.interrupted()
    run = Run(tmp_path / "run")
    before = run.states.last_file.read_bytes()
    values, save = run.last, torch.save

    def bad_save(content, path):
        save(content, path)
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 2)
            file.write(b"\xff" * 64)

    monkeypatch.setattr(torch, "save", bad_save)
    with pytest.raises(UserError, match="the disk does not give back what was written"):
        run.states.write(values)
    assert run.states.last_file.read_bytes() == before
