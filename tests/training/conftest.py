"""Trainings of a tiny network on real images, half a second each, and how to compare them."""

import contextlib
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from resnetlab import runs
from resnetlab.training.loop import train

MEASURED = {"seconds", "images_per_second", "peak_memory_mb"}


def comparable(value):
    """Without what the clock decides; tensors as numbers that == compares bit for bit."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in MEASURED}
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def contents(run: Path) -> dict:
    """All that a run folder says, but for times and memory."""
    return {
        "last": comparable(runs.load(run / "last.pt")),
        "best": comparable(runs.load(run / "best.pt")["model"]),
        "best line": comparable(runs.load(run / "best.pt")["metrics"]),
        "metrics": comparable(runs.read_metrics(run)),
        "test": (run / "test.json").read_text(),
    }


@contextmanager
def signal_after(number: int, *steps: int):
    """Send this process a signal whenever the optimizer has done so many steps, as of now."""
    done = 0

    def hook(*_):
        nonlocal done
        done += 1
        if done in steps:
            signal.raise_signal(number)

    handle = register_optimizer_step_post_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture
def tiny(tmp_path, samples):
    """``tiny.train(out, **changes)``, the same interrupted in step 2, and what runs hold."""

    def tiny_train(out="run", **changes):
        recipe = {
            "model_overrides": {"depths": (1, 1, 1), "widths": (4, 8, 8)},
            "data_dir": str(samples),
            "execution": "plain",
            "epochs": 2,
            "warmup_epochs": 1,
        }
        return train("smoke", out=tmp_path / out, **recipe | changes)

    def tiny_interrupted(out="run", **changes):
        with signal_after(signal.SIGINT, 2), pytest.raises(KeyboardInterrupt):
            tiny_train(out, **changes)
        return tmp_path / out

    return SimpleNamespace(
        train=tiny_train,
        interrupted=tiny_interrupted,
        contents=contents,
        signal_after=signal_after,
        comparable=comparable,
    )


@pytest.fixture
def use_threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def gradient():
    """(model, images) -> its parameters' gradients as one vector, computed by an execution."""

    def compute(model, x, execution=None):
        labels = torch.arange(len(x)) % 10
        with execution.autocast() if execution else contextlib.nullcontext():
            logits = model(x)
        loss = nn.functional.cross_entropy(logits.to(x.dtype), labels)
        loss.backward()
        trained = (p for p in model.parameters() if p.requires_grad)
        return torch.cat([p.grad.flatten().double() for p in trained])

    return compute


@pytest.fixture
def operations():
    """A result -> how often each operation stands in the graph that leads to it."""

    def count(result):
        seen, left = set(), [result.grad_fn]
        while left:
            node = left.pop()
            if node is not None and node not in seen:
                seen.add(node)
                left += [other for other, _ in node.next_functions]
        return Counter(type(node).__name__ for node in seen)

    return count
