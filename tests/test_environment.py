"""What others have set in this process, or left in its environment, stops nothing of ours."""

import ast
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import resnetlab
from resnetlab.environment import torch_defaults

SOURCE = Path(resnetlab.__file__).parent
SAMPLES = Path(__file__).parent / "data" / "samples"
NOWHERE = "inline_of_a_notebook"
"""A backend that is not installed, as a notebook's is not where a program has its own Python."""

EVALUATE = """
from resnetlab import evaluate
evaluate("resnet20-cifar10", dataset="cifar10-sample", data_dir=samples)
"""
DRAW = """
from resnetlab import load_dataset, plot_samples
plot_samples(load_dataset("cifar10-sample", "test", data_dir=samples), out)
"""
COMMAND = """
from resnetlab import cli
sys.argv = ["resnetlab", "data", "show", "cifar10-sample", "--data-dir", samples, "--out", out]
cli.main()
"""


@pytest.mark.parametrize("code", [EVALUATE, DRAW, COMMAND], ids=["evaluate", "draw", "command"])
def test_no_backend_of_a_parent_process_stops_us(code, tmp_path):
    start = f"import os, sys\nsamples, out = {str(SAMPLES)!r}, {str(tmp_path / 'x.png')!r}\n"
    end = f"assert os.environ['MPLBACKEND'] == {NOWHERE!r}\n"
    end += "import matplotlib.pyplot\n" if code != EVALUATE else ""  # which draws nothing
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:matplotlib", "-c", start + code + end],
        env=os.environ | {"MPLBACKEND": NOWHERE, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert code == EVALUATE or (tmp_path / "x.png").stat().st_size > 1000


def test_matplotlib_alone_would_be_stopped():
    code = "import matplotlib"
    environment = os.environ | {"MPLBACKEND": NOWHERE}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert b"is not a valid value for backend" in done.stderr


def test_a_backend_that_is_there_is_still_used_by_others():
    code = "import resnetlab.plots.style, matplotlib; print(matplotlib.get_backend())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MPLBACKEND": "svg"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "svg\n", done.stderr


def test_matplotlib_and_what_imports_it_are_imported_with_care():
    """At the top of a file, outside ``with matplotlib_importable()``, neither is imported."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"matplotlib", "torchmetrics"}, path


@pytest.fixture
def others():
    """A function that sets torch's defaults as another library may; they are undone."""

    def set_defaults(dtype, device):
        torch.set_default_dtype(dtype)
        torch.set_default_device(device)

    yield set_defaults
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def everything(out):
    """Results of all that works on data and networks, to compare bit for bit."""
    train = resnetlab.load_dataset("cifar10-sample", "train", data_dir=SAMPLES)
    network = resnetlab.load_checkpoint("resnet20-cifar10")
    options = {"dataset": "cifar10-sample", "data_dir": SAMPLES}
    result = resnetlab.evaluate(network, **options, tta="flip-shift")
    picture = Image.new("RGB", (40, 50), "red")
    drawn = [
        resnetlab.visualize(network, n=4, **options, out=out / "p.png"),
        resnetlab.plot_samples(train, out / "s.png", per_class=2),
        resnetlab.plot_confusion(result.confusion, result.classes, out / "c.png"),
    ]
    return [
        train.indices.tolist(),
        resnetlab.dataset_statistics(train),
        result.to_dict(),
        [resnetlab.predict(network, picture, execution=how) for how in ("auto", "plain")],
        [path.read_bytes() for path in drawn],
    ]


@pytest.mark.parametrize(
    ("dtype", "device"),
    [
        (torch.float64, "cpu"),
        (torch.bfloat16, "cpu"),
        (torch.float32, "meta"),
        (torch.float64, "meta"),
    ],
)
def test_torchs_defaults_of_others_change_no_result(dtype, device, others, tmp_path):
    wanted = everything(tmp_path)
    others(dtype, device)
    assert everything(tmp_path) == wanted
    assert torch.zeros(1).dtype == dtype
    assert torch.zeros(1).device.type == device


def test_defaults_come_back_after_an_error(others):
    others(torch.float64, "meta")
    with contextlib.suppress(KeyError), torch_defaults():
        assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).device.type == "cpu"
        raise KeyError
    assert torch.zeros(1).dtype == torch.float64
    assert torch.zeros(1).device.type == "meta"
