"""Faults that are really made, in processes that are really killed.

RESNETLAB_FAULTS=long asks for the long form: more kills, every operation on a file, two hosts.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import webdataset
from PIL import Image

from resnetlab.data.catalogue import CATALOGUE
from resnetlab.data.sources import read_split


class Server:
    """``server.py``, one child at a time."""

    def __init__(self, log):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        self.log = log

    def _answer(self) -> list[int]:
        line = self.process.stdout.readline()
        assert line, "the server has ended"
        return [int(word) for word in line.split()]

    def run(self, run, changes, **order):
        """The exit status of a child that trains ``run``; of several processes, a list of them."""
        line = json.dumps({"run": str(run), "changes": changes} | order) + "\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        ends = self._answer()
        return ends if len(ends) > 1 else ends[0]

    def timed(self, run, changes, **order):
        began = time.monotonic()
        ends = self.run(run, changes, **order)
        assert ends in (0, [0] * order.get("processes", 1)), self.said()
        return time.monotonic() - began

    def said(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with open(tmp_path_factory.mktemp("server") / "log", "w+b") as log:
        server = Server(log)
        yield server
        with server.process:  # closes its pipes, and waits
            server.process.stdin.close()


@pytest.fixture
def changes(samples):
    """Of a training of 24 steps that saves its state after each."""
    return {
        "model_overrides": {"depths": [1, 1, 1], "widths": [8, 16, 16]},
        "data_dir": str(samples),
        "execution": "plain",
        "epochs": 8,
        "warmup_epochs": 1,
        "checkpoint_minutes": 1e-9,
    }


@pytest.fixture(scope="session")
def images(tmp_path_factory, samples):
    """200 images in a folder for each class, and in two tar shards."""
    top = tmp_path_factory.mktemp("images")
    name = "cifar10-sample"
    images, labels = read_split(CATALOGUE[name].source, "train", samples / name)
    (top / "shards").mkdir()
    for shard in range(2):
        with webdataset.TarWriter(str(top / "shards" / f"train-00{shard}.tar")) as sink:
            for i in range(100 * shard, 100 * shard + 100):
                file = top / "folder" / f"class{labels[i]}" / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[i]).save(file)
                sink.write({"__key__": f"{i:06}", "png": file.read_bytes(), "cls": int(labels[i])})
    return top
