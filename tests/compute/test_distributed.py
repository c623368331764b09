"""Two real processes under torchrun, on the CPU."""

import json
import os
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from resnetlab.compute import distributed
from resnetlab.compute.distributed import World, start
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import evaluate
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import load_checkpoint

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2)
COMMAND = (*TORCHRUN, "--no-python", sys.executable, "-c", "from resnetlab.cli import main; main()")

# What the two ranks see of each other, and of one step on the same twelve images.
SCRIPT = """
import json, sys
from contextlib import contextmanager
from pathlib import Path
import torch
from torch.nn.parallel import DistributedDataParallel
from resnetlab.data.catalogue import load_dataset
from resnetlab.data.sampling import epoch_batches
from resnetlab.compute.distributed import start
from resnetlab.errors import UserError
from resnetlab.recipes.table import get_recipe
from resnetlab.training.plan import make_plan
from resnetlab.training.state import State
from resnetlab.training.step import train_step

samples, out = sys.argv[1:]

def fail():
    raise UserError("the disk is full")

held = []

@contextmanager
def hold():
    held.append(True)
    yield
    held.append(False)

def train(network, state, indices, accumulate):
    images, labels = data.batch(indices)
    train_step(plan(accumulate), state, network, images.float() / 128 - 1, labels)

def weights(state):
    return torch.cat([parameter.detach().flatten() for parameter in state.model.parameters()])

def plan(accumulate):
    overrides = {"depths": (1, 1, 1), "widths": (4, 8, 8)}
    common = {"model_overrides": overrides, "execution": "plain", "batch_size": 12}
    return make_plan(get_recipe("smoke", accumulate=accumulate, **common), data)

def create():
    state = State.create(plan(1))
    state.model.eval()  # batch norm would see half of the batch
    return state

with start() as world:
    box = torch.tensor([world.rank + 1.0])
    world.copy_from_main([box])
    seen = {
        "rank": world.rank, "size": world.size, "local_size": world.local_size,
        "sum": world.sum(torch.tensor([1.0, world.rank])).tolist(),
        "largest": world.largest(5 - world.rank),
        "gathered": world.gather(torch.tensor([1.0, world.rank])).tolist(),
        "from_main": world.from_main(lambda: f"rank {world.rank}"),
        "copied": box.item(),
    }
    world.hold(hold())
    seen["held"] = held[:]
    try:
        world.from_main(fail)
    except UserError as error:
        seen["error"] = str(error)
    data = load_dataset("cifar10-sample", "test", data_dir=Path(samples))
    batch = {"n": len(data), "batch_size": 12, "seed": 0, "epoch": 0}
    mine = next(epoch_batches(**batch, rank=world.rank, world_size=world.size))
    whole = next(epoch_batches(**batch))
    before = weights(create())
    one = create()
    train(one.model, one, whole, 1)
    for accumulate in (1, 3):
        both = create()
        train(DistributedDataParallel(both.model), both, mine, accumulate)
        difference = (weights(both) - weights(one)).norm() / (weights(one) - before).norm()
        seen[f"difference {accumulate}"] = difference.item()
seen["held then"] = held
open(f"{out}/{world.rank}.json", "w").write(json.dumps(seen))
"""


def test_one_process_is_a_world_of_its_own():
    with start() as world:
        assert world == World()
        assert world.is_main
        assert world.sum(torch.tensor([2.0])).tolist() == [2.0]
        assert world.largest(3) == 3
        assert world.gather(torch.tensor([2.0])).tolist() == [[2.0]]
        assert world.from_main(max, 1, 2) == 2
        with pytest.raises(ValueError, match="int"):
            world.from_main(int, "x")


def test_processes_that_start_again_agree_on_a_new_name():
    """In the store that torchrun keeps, in whatever order they come."""
    store = dist.HashStore()
    found = []
    for ranks in ((2, 1, 0), (0, 2, 1)):
        with ThreadPoolExecutor(3) as pool:
            starts = []
            for rank in ranks:
                starts.append(pool.submit(distributed._round, store, rank, 3))
                time.sleep(0.1)
            found.append({start.result(10) for start in starts})
    (first,), (second,) = found
    assert first != second


def by_torchrun(start, *words):
    return [start(*words, program=TORCHRUN)]


def by_hand(start, *words):
    """With nothing but the four variables of ``env://``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start(*words, program=(sys.executable,), env=os.environ | shared | {"RANK": str(rank)})
        for rank in range(2)
    ]


@pytest.mark.parametrize("launch", [by_torchrun, by_hand])
def test_two_processes_share_a_batch_and_agree(launch, start, samples, tmp_path):
    """``start`` is the fixture of the command line here."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for process in launch(start, script, samples, tmp_path):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    for rank in range(2):
        seen = json.loads((tmp_path / f"{rank}.json").read_text())
        differences = [seen.pop(f"difference {accumulate}") for accumulate in (1, 3)]
        assert (
            seen
            == {
                "rank": rank,
                "size": 2,
                "local_size": 2,
                "sum": [2.0, 1.0],
                "largest": 5,
                "gathered": [[1.0, 0.0], [1.0, 1.0]],
                "from_main": "rank 0",
                "copied": 1.0,
                "held": [True][rank:],  # by rank 0
                "held then": [True, False][2 * rank :],
                "error": "the disk is full",
            }
        )
        assert differences == pytest.approx([0, 0], abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number, at least 1, but it is ''"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be .* but it is 'two'; .*unset WORLD_SIZE"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be .* but it is '0'"),
        ({"RANK": None}, "RANK must be a whole number, 0 to 1, but it is not set"),
        ({"RANK": "2"}, "RANK must be a whole number, 0 to 1, but it is '2'"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR must name the machine of rank 0"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT must be .* but it is 'http'"),
        ({"MASTER_PORT": None}, "MASTER_PORT must be .* but it is not set"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch, changes, sentence):
    right = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in (right | changes).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^the environment variable {sentence}"), start():
        pass


def test_the_same_command_trains_in_two_processes(start, samples, tmp_path):
    run = tmp_path / "run"
    words = ["train", "smoke", "--data-dir", samples, "--out", run, "--execution", "plain"]
    words += ["--epochs", 2, "--warmup-epochs", 1, "--val-size", 99, "--ema-decay", 0.5]
    process = start(*words, program=COMMAND)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("test accuracy") == 1
    assert err.count("epoch 2/2") == 1
    assert "201 training images, 99 validation images" in err
    assert "2 processes" in err
    assert err.count("2 processes share each batch: batch norm sees the images of one") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    checkpoint = load_checkpoint(run)
    assert all(bool(value.isfinite().all()) for value in checkpoint.weights.values())
    metrics = Run(run).metrics
    assert [line["step"] for line in metrics] == [3, 6]
    test = json.loads((run / "test.json").read_text())
    assert test == evaluate(run).to_dict()
    assert test["n"] == 100
    # 99 images do not halve: counted once each, with the very network that is kept
    best = max(metrics, key=lambda line: (line["val_top1"], -line["val_loss"]))
    val = evaluate(run, split="val")
    assert val.n == 99
    assert val.top1 == pytest.approx(best["val_top1"])
    assert val.loss == pytest.approx(best["val_loss"], rel=1e-5)


def test_two_processes_go_on_with_what_two_have_trained(start, resnetlab, samples, tmp_path):
    words = ["train", "smoke", "--data-dir", samples, "--execution", "plain"]
    words += ["--model-overrides", "depths", "1,1,1", "widths", "4,8,8", "--warmup-epochs", 0.5]
    run = tmp_path / "run"
    process = start(*words, "--out", run, "--epochs", 1, program=COMMAND)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    answer = resnetlab("resume", run, "--epochs", 2)
    assert answer.code == 2
    assert "was trained by 2 and is resumed by 1 process(es)" in answer.err
    process = start("resume", run, "--epochs", 2, program=COMMAND)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("resuming after step 3 of 6, in epoch 2 of 2") == 1
    assert err.count("changed from here on: epochs 1 -> 2") == 1
    assert [line["step"] for line in Run(run).metrics] == [3, 6]


def test_what_two_processes_cannot_share_is_one_sentence(start, samples, tmp_path):
    words = ["train", "smoke", "--data-dir", samples, "--out", tmp_path / "run"]
    process = start(*words, "--execution", "plain", "--batch-size", 63, program=COMMAND)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.findall("^resnetlab: .*", err, re.M) == [
        "resnetlab: batch size 63 cannot be shared evenly by 2 process(es): choose a multiple of 2"
    ]
    assert not list(tmp_path.iterdir())
