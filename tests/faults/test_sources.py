"""A run on one's own images, killed twice in the middle of an epoch, ends as an undisturbed one."""

import signal

import pytest

from resnetlab.evaluation.linear import PENALTIES
from resnetlab.runs import Run

RECIPE = {
    "epochs": 3,
    "batch_size": 16,
    "val_size": 40,  # leaves 9 steps an epoch
    "cache": "none",
    "resized_crop": 0.5,
    "color_jitter": 0.3,
    "random_erasing": 0.25,
}
PRETRAINED = {"pretrained": "resnet20-cifar10", "model_overrides": {}, "warmup_epochs": 0}
KINDS = {
    "folder": {"image_size": 24},
    "cache": {"auto_augment": "trivial"},
    "shards": {"ema_decay": 0.8},
    "stages": PRETRAINED | {"head": "fitted", "freeze": "stages=3", "epochs": 2},
}


def kill_at(server, run, changes, step):
    """Train, or go on, and be killed with -9 in the optimizer's so-manieth step of this start."""
    ended = server.run(run, changes, rank=0, step=step, fault="killed")
    assert ended == -signal.SIGKILL, server.said()


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_ones_own_are_seen_as_if_nothing_had_happened(
    server, changes, images, tmp_path, tiny, kind
):
    source = images / ("shards" if kind == "shards" else "folder")
    changes |= {"dataset": str(source), "data_dir": None} | RECIPE | KINDS[kind]
    if kind == "cache":
        changes["cache"] = str(tmp_path / "whole's")
    server.timed(tmp_path / "whole", changes)
    if kind == "cache":  # its files are half-written, too, when the run is killed
        changes["cache"] = str(tmp_path / "broken's")
    run = Run(tmp_path / "broken")
    # the classifier is fitted before the first step
    for first, done in ((len(PENALTIES) if kind == "stages" else 0, 4), (-4, 14)):
        kill_at(server, run.path, changes, first + done + 1)
        assert run.last["step"] == done
        assert done % 9
    assert server.run(run.path, changes) == 0, server.said()
    assert without_cache(tiny.contents(run.path)) == without_cache(
        tiny.contents(tmp_path / "whole")
    )


def without_cache(contents):
    contents["last"]["recipe"].pop("cache")
    return contents


def test_a_head_that_is_fitted_alone_is_fitted_anew(server, changes, images, tmp_path, tiny):
    """It has no epochs; killed twice in its fit, nothing was saved."""
    changes |= {"dataset": str(images / "folder"), "data_dir": None, "val_size": 40}
    changes |= PRETRAINED | {"freeze": "backbone", "epochs": 1, "head_views": 2}
    server.timed(tmp_path / "whole", changes)
    for step in (1, 6):
        kill_at(server, tmp_path / "broken", changes, step)
        assert not Run(tmp_path / "broken").states.exist
    assert server.run(tmp_path / "broken", changes) == 0, server.said()
    assert tiny.contents(tmp_path / "broken") == tiny.contents(tmp_path / "whole")
