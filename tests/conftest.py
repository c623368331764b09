"""What the tests share: one thread, the real images, one training, the command line, pictures."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from resnetlab import cli
from resnetlab.data import cache
from resnetlab.plots import confusion, curves, heatmaps, images, inside, style
from resnetlab.runs import Run
from resnetlab.training.job import Training, train

# Several threads wait for each other in a busy loop when the cores are taken.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

# A shell's background job ignores Ctrl-C, under nohup a closed terminal too, and so would the
# trainings that tests stop by them.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Other programs may take the machine; a slow example is no failure.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

SAMPLES = Path(__file__).parent / "data" / "samples"


@pytest.fixture(scope="session")
def samples() -> Path:
    """A data_dir with 300 + 100 real images of both data sets."""
    return SAMPLES


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The smoke recipe, shortened and with averaged weights; nobody may change its folder."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    # "auto" would measure, and might take more threads than one for the rest of the tests.
    options = {"execution": "channels_last", "data_dir": str(SAMPLES), "out": out}
    return train("smoke", epochs=6, ema_decay=0.8, **options)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of data sets of a user who has none yet."""
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True, scope="session")
def pixels_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves decoded images in the cache of whoever runs it."""
    theirs, ours = cache.cache_home, tmp_path_factory.mktemp("decoded")
    with pytest.MonkeyPatch.context() as patch:
        named = "RESNETLAB_HOME"
        patch.setattr(cache, "cache_home", lambda: theirs() if named in os.environ else ours)
        yield


@dataclass(frozen=True)
class Answer:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def resnetlab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """A function that runs the command line in this process."""

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["resnetlab", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """A function that starts the command line as a process of its own."""

    def begin(*words: object, program: tuple[object, ...] = (), **options) -> subprocess.Popen[str]:
        main = (sys.executable, "-c", "from resnetlab.cli import main; main()")
        return subprocess.Popen(
            [*map(str, program or main), *map(str, words)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
        )

    return begin


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, in order; the files are written all the same."""
    figures = []
    write_figure = style.write_figure

    def write(figure: Figure, out: str | Path) -> Path:
        figures.append(figure)
        return write_figure(figure, out)

    for module in (curves, confusion, images, heatmaps, inside):
        monkeypatch.setattr(module, "write_figure", write)
    return figures


@pytest.fixture
def assert_png() -> Callable[[Path], None]:
    """A function that opens a picture, and sees that nothing half-written lies beside it."""

    def check(path: Path) -> None:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert image.width >= 300
            assert len(np.unique(np.asarray(image))) > 10
        assert not [p for p in path.parent.iterdir() if "partial" in p.name]

    return check


@pytest.fixture
def assert_readable() -> Callable[[Figure], None]:
    """A function that looks whether all texts of a figure are whole and apart."""

    def check(figure: Figure) -> None:
        figure.canvas.draw()
        texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label) if text]
        for axes in figure.axes:
            low, high = sorted(axes.get_ylim())  # matplotlib keeps ticks beyond them, undrawn
            labels = axes.get_yticklabels()
            texts += [label for label in labels if low <= label.get_position()[1] <= high]
        texts += [figure._suptitle] if figure._suptitle else []
        boxes = [
            text.get_window_extent() for text in texts if text.get_text() and text.get_visible()
        ]
        width, height = figure.bbox.size
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])

    return check


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
        "last": comparable(Run(run).last),
        "best": comparable(torch.load(run / "best.pt", weights_only=True)["model"]),
        "best line": comparable(torch.load(run / "best.pt", weights_only=True)["metrics"]),
        "metrics": comparable(Run(run).metrics),
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
