"""A notebook, executed by a real Jupyter kernel."""

import os
import sys
from pathlib import Path

import pytest

import resnetlab

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

SAMPLES = Path(__file__).parent / "data" / "samples"

CELLS = (
    f"!resnetlab train smoke --epochs 1 --execution plain --data-dir {SAMPLES} --out run",
    "!resnetlab plot run --out shell.png",
    """
from resnetlab import load_dataset, plot_curves, predict, train, visualize
from PIL import Image
result = train("smoke", epochs=1, execution="plain", data_dir=samples, out="python")
assert result.test.n == 100
""",
    "plot_curves(result.run)",
    "visualize('run', n=4)",
    "predict('run', Image.new('RGB', (40, 50), 'red'), topk=1)",
    "import matplotlib.pyplot as plt; plt.plot([1, 2]);",  # as inline as it ever was
)


def test_a_notebook_trains_plots_and_predicts(tmp_path, monkeypatch):
    # The commands are those of this Python and of this source.
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "resnetlab"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resnetlab "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path(resnetlab.__file__).parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = (f"samples = {str(SAMPLES)!r}", *CELLS)
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()

    _, trained, plotted, _, curves, predictions, predicted, users = notebook.cells
    assert "test accuracy" in text_of(trained)
    assert "shell.png" in text_of(plotted)
    assert "Traceback" not in "".join(map(text_of, notebook.cells))
    for cell in (curves, predictions, users):
        (image,) = [output.data for output in cell.outputs if "image/png" in output.get("data", {})]
        assert len(image["image/png"]) > 1000
    assert "Picture('python/curves.png')" in curves.outputs[-1].data["text/plain"]
    assert "Prediction(path='image 1'" in predicted.outputs[-1].data["text/plain"]


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.outputs)
