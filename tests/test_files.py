import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resnetlab.errors import UserError
from resnetlab.files import (
    atomic_write,
    cache_home,
    is_address,
    locked,
    remove_partial,
    user_path,
    write_json,
    write_text,
)


def test_writes_into_new_folders_what_open_would_have_given(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"π": [1, 2.5, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"π": [1, 2.5, None]}
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write():
        with atomic_write(path) as temporary:
            temporary.write_text("half of the ne")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    # matplotlib and torch choose the format by it
    with atomic_write(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    for name in ("last.pt", ".last-notes.pt", "best-partial-1.pt", "tensorboard/.x-partial-y.pt"):
        write_text(tmp_path / name, "")
    before = sorted(tmp_path.rglob("*"))
    code = """
import os, pathlib, sys
from resnetlab.files import atomic_write
with atomic_write(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "last.pt"])
    assert len(list(tmp_path.rglob("*"))) == len(before) + 1
    remove_partial(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_is_a_sentence(tmp_path, code):
    path = tmp_path / "file.txt"
    sentence = f"cannot write {path}: {os.strerror(code)}; free some space or name another folder."
    with pytest.raises(ValueError, match=re.escape(sentence)), atomic_write(path):
        raise OSError(code, os.strerror(code))
    assert not list(tmp_path.iterdir())


def test_a_path_below_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write .*file/x: (Not a directory|File exists)"):
        write_text(tmp_path / "file" / "x", "")


def test_one_holds_a_lock_and_another_waits_or_gives_up(tmp_path):
    path = tmp_path / "lock"
    waiting, got = threading.Event(), threading.Event()

    def wait():
        with locked(path, waiting.set):
            got.set()

    def give_up():
        raise ValueError("taken")

    other = threading.Thread(target=wait)
    with locked(path, give_up):
        with pytest.raises(ValueError, match="taken"), locked(path, give_up):
            pytest.fail("two have it")
        other.start()
        assert waiting.wait(10)
        assert not got.wait(0.1)
    other.join(10)
    assert got.is_set()
    with locked(path, give_up):
        pass


def test_a_killed_process_lets_go_of_its_lock(tmp_path):
    code = """
import os, pathlib, sys
from resnetlab.files import locked
with locked(pathlib.Path(sys.argv[1]), lambda: None):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "lock"])
    with locked(tmp_path / "lock", lambda: pytest.fail("still held")):
        pass


def test_a_lock_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="cannot write"),
        locked(tmp_path / "file" / "lock", lambda: None),
    ):
        pytest.fail("held")


def test_the_home_folder_is_found_in_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a/b") == user_path(Path("~/a/b")) == tmp_path / "a" / "b"
    assert user_path("a/~/b") == Path("a/~/b")
    assert user_path("~draft of nobody.txt") == Path("~draft of nobody.txt")
    monkeypatch.setenv("RESNETLAB_HOME", "~/data")
    assert cache_home() == tmp_path / "data"


@pytest.mark.parametrize("address", ["http://x.org/a", "https:/x.org/a", "s3://b/a", "file:///a"])
def test_an_address_is_no_path(address, monkeypatch):
    assert is_address(address)
    assert is_address(Path(address))
    with pytest.raises(UserError, match=r"\w://.* is an address; give a path on this computer"):
        user_path(address)
    monkeypatch.setenv("RESNETLAB_HOME", address)
    with pytest.raises(UserError, match="is an address"):
        cache_home()


@pytest.mark.parametrize("path", ["C:/a", "a:b", "hf-hub:user/repo", "12:00/a", "", "a//b"])
def test_what_only_looks_like_an_address(path):
    assert not is_address(path)
