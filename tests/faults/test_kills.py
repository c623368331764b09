"""A run that was killed, any number of times and anywhere, ends as if it had not been."""

import os
import random
import signal

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnetlab.compute.machine import compiler, has_fast_bf16
from resnetlab.runs import Run

LONG = os.environ.get("RESNETLAB_FAULTS") == "long"
AVERAGED = {"ema_decay": 0.8, "clip_norm": 5.0}
KINDS = {
    "plain": {"optimizer": "muon", "accumulate": 2, "cutmix": 1.0, **AVERAGED},
    "bf16": {"execution": "bf16,channels_last", "mixup": 0.5, "early_size": 16, "early_share": 0.4},
    "fused": {"execution": "channels_last,fused", "flip": "alternating"},
    "winograd": {"execution": "bf16,channels_last,winograd", "optimizer": "muon"},
}
if LONG:
    KINDS["compile"] = {"execution": "compile", "epochs": 2}


def check_events(run):
    """TensorBoard has each step of metrics.jsonl once."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("train_loss")]
    assert steps == [line["step"] for line in Run(run).metrics]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(
    server, changes, tmp_path, tiny, kind
):
    if kind in ("fused", "winograd", "compile") and compiler() is None:
        pytest.skip("needs a C++ compiler")
    if kind == "winograd" and not has_fast_bf16():
        pytest.skip("needs AVX-512 BF16")
    kills = 20 if kind == "plain" or (LONG and kind != "compile") else 3
    changes |= {"epochs": 22 if kills == 20 else 8} | KINDS[kind]
    seconds = server.timed(tmp_path / "whole", changes)
    steps = Run(tmp_path / "whole").metrics[-1]["step"]
    draw, killed = random.Random(kind), 0
    for _ in range(kills):  # in one of the next steps, or while it is saved, or validated
        moment = {
            "step": draw.randint(1, steps // kills),
            "after": draw.uniform(0, seconds / steps),
        }
        status = server.run(tmp_path / "broken", changes, rank=0, fault="killed", **moment)
        assert status in (0, -signal.SIGKILL), server.said()
        killed += status == -signal.SIGKILL
    if not (tmp_path / "broken" / "test.json").exists():
        assert server.run(tmp_path / "broken", changes) == 0, server.said()
    assert killed >= kills - 1  # the last one may be late
    assert tiny.contents(tmp_path / "broken") == tiny.contents(tmp_path / "whole")
    check_events(tmp_path / "broken")


def test_a_run_killed_at_any_operation_on_a_file_ends_as_an_undisturbed_one(
    server, changes, tmp_path, tiny
):
    """Before, amid and after every write, flush and renaming; in the short form at some of them."""
    changes |= {"epochs": 2, "checkpoint_minutes": 5 if not LONG else 1e-9}
    server.timed(tmp_path / "whole", changes)
    at, step = 3, 1 if LONG else 23
    while True:
        run = tmp_path / f"killed at {at}"
        status = server.run(run, changes, **{"kill at": at})
        if status == 0:
            break
        assert status == -signal.SIGKILL, server.said()
        if not (run / "test.json").exists():
            assert server.run(run, changes) == 0, server.said()
        assert tiny.contents(run) == tiny.contents(tmp_path / "whole"), f"killed at {at}"
        assert not [path for path in run.iterdir() if "partial" in path.name]
        at += step
    assert at > 3 * step
