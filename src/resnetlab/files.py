"""Paths that people give; files that are either whole or not there; locks."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from resnetlab.errors import UserError, reason_of


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a person gives it, with ``~`` expanded.

    Raises UserError for the address of something on the network.
    """
    if is_address(path):
        raise UserError(f"{shown_address(path)} is an address; give a path on this computer.")
    try:
        return Path(path).expanduser()
    except RuntimeError:  # a file may be called ~draft.png
        return Path(path)


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether it begins like https://..., also after a Path has made one slash of the two."""
    return re.match(r"[A-Za-z][\w+.-]+:/", os.fspath(path)) is not None and not Path(path).exists()


def shown_address(path: str | os.PathLike[str]) -> str:
    """The address with both of its slashes."""
    return re.sub(r"^([\w+.-]+):/+", r"\1://", os.fspath(path))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffix), renamed to it if the body succeeds.

    Flushed to the disk before and after that, so that even a power cut leaves the old file or the
    new one. Raises WriteError, one sentence, where the disk is full or the folder is closed.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-partial-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes files that only their owner may read; give what open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Write a file's bytes, or the names in a folder, from the system's memory to the disk."""
    if os.name == "nt":  # which opens no folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> None:
    """Remove what ``atomic_write`` left in a folder when its process was killed."""
    for temporary in folder.glob(".*-partial-*"):
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file, as one process at a time can; the file stays.

    Where another holds it, ``busy`` is called, and may raise; else its end is waited for. The
    system lets go of the lock even if its process is killed. UserError where it cannot be written.
    """
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            busy()
            lock.acquire()
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # nobody can hold what cannot be written
        return False
    lock.release()
    return False


def check_zip(path: Path) -> None:
    """Raise zipfile.BadZipFile if a byte has changed: torch writes checksums and reads none."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zlib.error, UnicodeDecodeError, NotImplementedError, OverflowError) as error:
        raise zipfile.BadZipFile(f"damaged directory: {error}") from error
    if damaged:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def not_whole(path: Path, error: Exception) -> OSError:
    """What the writers of torch and safetensors mean by errors of their own."""
    if shutil.disk_usage(path.parent).free < 1 << 16:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OSError(None, f"not all of it could be written ({reason_of(error)})")


class WriteError(UserError):
    """A disk that is full, or a folder that is closed to the user."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"{fault}; free some space or name another folder.")
        self.fault = fault
        """the sentence without its remedy"""


def cannot_write(path: Path, error: OSError) -> WriteError:
    """The sentence for a user whose disk is full or whose folder is closed to them."""
    return WriteError(f"cannot write {path}: {reason_of(error)}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Look at a path that a person gave: where the system does not let us, UserError names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {reason_of(error)}.") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def cache_home() -> Path:
    """$RESNETLAB_HOME, or ~/.cache/resnetlab; UserError for a user without a home."""
    try:
        named = os.environ.get("RESNETLAB_HOME")
        return user_path(named) if named else Path.home() / ".cache" / "resnetlab"
    except RuntimeError:
        raise UserError("there is no home folder; name one for data: RESNETLAB_HOME.") from None
