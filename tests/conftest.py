"""What the tests share: one thread, the real images, one training, the command line, pictures."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure
from PIL import Image

from resnetlab import cli, image_plots, plots
from resnetlab.training.loop import Training, train

# Several threads wait for each other in a busy loop when the cores are taken.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

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
    write_figure = plots.write_figure

    def write(figure: Figure, out: str | Path) -> Path:
        figures.append(figure)
        return write_figure(figure, out)

    for module in (plots, image_plots):
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
        assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]

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
