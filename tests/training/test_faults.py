"""What ends a training: a sentence, with a remedy that is followed here."""

import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from resnetlab.errors import UserError
from resnetlab.runs import Run
from resnetlab.training import job, loop
from resnetlab.training.job import resume
from resnetlab.training.step import train_step


def command_in(sentence):
    """The words of the command that a message ends with or holds."""
    text = re.search(r"resnetlab (resume .*?)(?:$|, or with|\. )", sentence + "\n", re.M)[1]
    return shlex.split(text.rstrip("."))


@pytest.fixture
def bursting(monkeypatch):
    """A function: from a step on, as many times as told, the loss is not finite."""

    def burst(first, value=float("nan"), times=1):
        left = [times]

        def step(plan, state, *args):
            sums = train_step(plan, state, *args)
            if state.step + 1 >= first and left[0]:
                left[0] -= 1
                sums[0] = value
            return sums

        monkeypatch.setattr(loop, "train_step", step)

    return burst


@pytest.mark.parametrize(
    ("step", "where"),
    [(2, "2 (epoch 1, batch 2"), (3, "3 (epoch 1, batch 3"), (5, "5 (epoch 2, batch 2")],
)
def test_a_loss_that_is_not_finite_ends_at_its_step(
    tiny, tmp_path, bursting, resnetlab, step, where
):
    bursting(step)
    with pytest.raises(UserError) as error:
        tiny.train("a b", epochs=4, optimizer="muon")
    run = tmp_path / "a b"
    begin = f"{run} keeps what was saved before; go on from there"
    if step <= 3:
        begin = "nothing was saved yet; start again"
    assert str(error.value).startswith(
        f"the loss is not finite in step {where} of 3); {begin} with a lower `lr`: "
    )
    assert ("`warmup_share`" in str(error.value)) == (step <= 3)
    command = command_in(str(error.value))
    assert command[1:] == [str(run), "--lr", "0.005", "--muon-lr", "0.005"]
    answer = resnetlab(*command)
    assert answer.code == 0, answer.err
    assert "lr 0.05 -> 0.005" in answer.err
    assert (Run(run).recipe.lr, Run(run).recipe.muon_lr) == (0.005, 0.005)


def test_a_rollback_goes_on_from_the_checkpoint_with_half_the_rate(tiny, bursting, capsys):
    bursting(5, times=2)
    training = tiny.train(epochs=4, optimizer="muon", on_nan="rollback")
    run = Run(training.run)
    said = [line for line in capsys.readouterr().err.splitlines() if "; rollback " in line]
    assert said == [
        "the loss is not finite in step 5 (epoch 2, batch 2 of 3); rollback 1 of 3: going on after "
        "step 3 with lr 0.025, muon_lr 0.025",
        "the loss is not finite in step 5 (epoch 2, batch 2 of 3); rollback 2 of 3: going on after "
        "step 3 with lr 0.0125, muon_lr 0.0125",
    ]
    assert (run.recipe.lr, run.recipe.muon_lr) == (0.0125, 0.0125)
    assert [line["step"] for line in run.metrics] == [3, 6, 9, 12]
    assert run.metrics[1]["lr"] < 0.0125 < run.metrics[0]["lr"]
    assert [(each["at"], each["back_to"], each["lr"]) for each in run.last["rollbacks"]] == [
        (5, 3, 0.025),
        (5, 3, 0.0125),
    ]


def test_a_rollback_before_the_first_checkpoint_starts_anew_and_three_are_enough(
    tiny, tmp_path, bursting
):
    bursting(2, times=4)
    with pytest.raises(
        UserError, match=r"in step 2 \(.*, after 3 rollbacks to half the rate; .* than 0\.00625"
    ):
        tiny.train(on_nan="rollback")
    saved = Run(tmp_path / "run").last
    assert (saved["step"], len(saved["rollbacks"])) == (0, 3)


def test_weights_that_are_not_finite_are_not_kept(tiny, tmp_path, monkeypatch):
    """The loss of the last step is that of the weights before it."""

    def step(plan, state, *args):
        sums = train_step(plan, state, *args)
        if state.step == 3:
            state.model.fc.weight.data[0, 0] = float("inf")
        return sums

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(
        UserError, match=r"the weights are not finite in step 4 \(epoch 1, batch 4 of 4\)"
    ):
        tiny.train(val_size=0, epochs=1, warmup_epochs=0)
    assert not (tmp_path / "run" / "best.pt").exists()


def test_initial_weights_are_looked_at(tiny, tmp_path, bursting, smoke):
    bursting(1)
    with pytest.raises(UserError, match=r"look whether its initial weights are sound \(resnetlab"):
        tiny.train(pretrained=str(smoke.run), model_overrides={})


LITTLE = """
import resource, sys
import torch
from resnetlab.cli import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + 1_500_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
main()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_that_does_not_suffice_is_a_sentence(start, samples, tmp_path):
    run = tmp_path / "run"
    words = ["train", "smoke", "--data-dir", samples, "--out", run, "--execution", "plain"]
    words += ["--model", "resnet56", "--batch-size", 192, "--image-size", 96, "--epochs", 1]
    _, err = start(*words, program=(sys.executable, "-c", LITTLE)).communicate(timeout=120)
    assert err.splitlines()[-1] == (
        "resnetlab: the memory does not suffice for --batch-size 192; nothing was saved yet; start "
        f"again in parts, --accumulate 2: resnetlab resume {run} --accumulate 2"
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_every_kind_of_too_little_memory_is_known(tiny, tmp_path, monkeypatch, resnetlab, error):
    def step(plan, state, *args):
        if state.step == 4:
            raise error
        return train_step(plan, state, *args)

    with monkeypatch.context() as context:
        context.setattr(loop, "train_step", step)
        with pytest.raises(UserError, match=r"`batch_size` 64; .* keeps what was saved") as caught:
            tiny.train()
    command = command_in(str(caught.value))
    assert command[2:] == ["--accumulate", "2"]
    answer = resnetlab(*command)
    assert answer.code == 0, answer.err
    assert "accumulate 1 -> 2" in answer.err
    assert "resuming after step 3 of 6, in epoch 2 of 2" in answer.err


def test_other_errors_of_torch_keep_their_traceback(tiny, monkeypatch):
    def step(*args):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        tiny.train()


@pytest.fixture
def full_disk(monkeypatch, tmp_path):
    """A context in which files of some name cannot be written any more."""
    handle = os.open(tmp_path / "room", os.O_CREAT | os.O_RDWR)
    mkstemp = tempfile.mkstemp

    @contextlib.contextmanager
    def full(*names):
        def make(dir, prefix, suffix):
            if not prefix.startswith(tuple(f".{name}-" for name in names)):
                return mkstemp(dir=dir, prefix=prefix, suffix=suffix)
            path = Path(dir) / f"{prefix}x{suffix}"
            path.symlink_to("/dev/full")
            return os.dup(handle), str(path)

        with monkeypatch.context() as context:
            context.setattr("resnetlab.files.tempfile.mkstemp", make)
            yield

    yield full
    os.close(handle)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("name", ["best", "last"])
def test_a_full_disk_says_that_resume_goes_on(tiny, tmp_path, full_disk, resnetlab, name):
    whole = tiny.train("whole")
    with (
        full_disk(name),
        pytest.raises(UserError, match=f"{name}.pt.*; free some space, and go on"),
    ):
        tiny.train("a b")
    with full_disk(name), pytest.raises(UserError) as error:
        resume(tmp_path / "a b")
    answer = resnetlab(*command_in(str(error.value)))
    assert answer.code == 0, answer.err
    assert tiny.contents(tmp_path / "a b") == tiny.contents(whole.run)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_logs_that_cannot_be_written_never_cost_the_state(tiny, tmp_path, full_disk, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "tensorboard").touch()  # a file where the folder should be
    with full_disk("metrics"), tiny.signal_after(2, 4), pytest.raises(KeyboardInterrupt):
        tiny.train()
    assert Run(run).last["step"] == 4
    said = capsys.readouterr().err
    assert said.count("metrics.jsonl: No space left on device; the training goes on") == 1
    assert said.count("TensorBoard is not told of this training any more") == 1
    training = resume(run)
    assert Run(run).metrics == training.history


def test_output_that_cannot_be_written_never_costs_the_state(start, samples, tmp_path):
    words = ("train", "smoke", "--data-dir", samples, "--execution", "plain", "--epochs", 1)
    with open("/dev/full", "w") as full:
        process = start(*words, "--out", tmp_path / "run", stderr=full)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "test accuracy" in out
    assert Run(tmp_path / "run").last["step"] == 3


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("the test files are damaged."), "but its test failed: the test files are dam"),
        (MemoryError(), "but the memory does not suffice for its test"),
        (KeyboardInterrupt(), "stopped in the test; the training is finished and safe"),
    ],
)
def test_a_test_that_fails_leaves_the_training_safe(
    tiny, tmp_path, monkeypatch, resnetlab, error, sentence
):
    def fail(*args, **options):
        raise error

    with monkeypatch.context() as context:
        context.setattr(job, "evaluate", fail)
        kind = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
        with pytest.raises(kind, match=sentence) as caught:
            tiny.train("a b")
    assert "the training is finished and safe" in str(caught.value)
    assert f"resnetlab resume '{tmp_path / 'a b'}'" in str(caught.value)
    before = (tmp_path / "a b" / "last.pt").read_bytes()
    answer = resnetlab("resume", tmp_path / "a b")
    assert answer.code == 0, answer.err
    assert "testing " in answer.err
    assert "\nepoch" not in answer.err  # nothing is trained
    assert (tmp_path / "a b" / "last.pt").read_bytes() == before


def test_a_damaged_test_file_leaves_the_training_safe(tiny, tmp_path, samples, monkeypatch):
    data = shutil.copytree(samples, tmp_path / "data")
    (test,) = (data / "cifar10-sample").glob("test*")
    whole = test.read_bytes()

    def train_and_damage(*args):
        loop.train_to_the_end(*args)
        test.write_bytes(whole[:-1])

    monkeypatch.setattr(job, "train_to_the_end", train_and_damage)
    with pytest.raises(UserError, match="the training is finished and safe, but its test failed"):
        tiny.train(data_dir=str(data))
    test.write_bytes(whole)
    monkeypatch.undo()
    assert resume(tmp_path / "run").test.n == 100


def test_ctrl_c_while_it_measures_leaves_no_folder(tiny, tmp_path, monkeypatch):
    """There is none yet: what kills the process at that moment leaves nothing, either."""

    def measure(*args, **options):
        assert not (tmp_path / "run").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "choose_execution", measure)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(execution="auto")
    assert not (tmp_path / "run").exists()


def test_a_second_ctrl_c_says_how_to_go_on(tiny, tmp_path, monkeypatch):
    def step(plan, state, *args):
        if state.step == 4:
            raise KeyboardInterrupt
        return train_step(plan, state, *args)

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(KeyboardInterrupt, match=r"stopped at once; .* keeps .*resume '.*/a b'"):
        tiny.train("a b")
