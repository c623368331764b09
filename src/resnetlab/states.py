"""The state that a training goes on from, on the disk: last.pt, and previous.pt, the one before it.

Plain dicts and tensors only, with a digest, so that no changed byte passes. A new one takes its
place only when it has been read back from the disk.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from resnetlab.console import Report
from resnetlab.errors import UserError
from resnetlab.files import atomic_write, check_zip, flush, not_whole, reading
from resnetlab.weights.digest import digest

FORMAT = 1
"""Of a state; one without a number is 1."""

_DAMAGE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError),
    *(struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What reading a damaged state can raise."""


class States:
    """The states in a run folder."""

    def __init__(self, folder: Path) -> None:
        self.last_file = folder / "last.pt"
        self.previous_file = folder / "previous.pt"
        self._last_is_damaged = False

    @property
    def files(self) -> list[Path]:
        """Those that there are, the latest first."""
        return [file for file in (self.last_file, self.previous_file) if file.exists()]

    @property
    def exist(self) -> bool:
        return bool(self.files)

    def latest(self, report: Report) -> dict[str, Any] | None:
        """The state to go on from; None before the first one.

        That is last.pt or, where it is damaged or a crash came between the two, previous.pt, which
        is reported. Raises UserError where none is whole.
        """
        faults: list[DamageError] = []
        with reading(self.last_file.parent):
            files = self.files
        for file in files:
            try:
                values = read_state(file)
            except DamageError as error:
                self._last_is_damaged = self._last_is_damaged or file == self.last_file
                faults.append(error)
                continue
            if file == self.previous_file:
                what = f"{faults[0].fault};" if faults else f"{self.last_file} is not there:"
                report(f"{what} going on from the state before it, {file.name}")
            return values
        if len(faults) > 1:
            raise UserError(
                f"{faults[0].fault}, and so is {self.previous_file.name}; remove both, and "
                "`resnetlab resume` starts the run anew."
            )
        if faults:
            raise faults[0]
        return None

    def write(self, values: Mapping[str, Any]) -> None:
        """Write plain values and tensors as last.pt; what it was becomes previous.pt."""
        values = {"format": FORMAT, **values}
        with atomic_write(self.last_file) as temporary:
            try:
                torch.save(values | {"digest": digest(values)}, temporary)
            except RuntimeError as error:
                raise not_whole(temporary, error) from error
            _check_on_disk(temporary)
            if self.last_file.exists() and not self._last_is_damaged:
                self._keep_as_previous()
        self._last_is_damaged = False

    def _keep_as_previous(self) -> None:
        """Let last.pt be previous.pt as well, so that there is a last.pt at every moment."""
        self.previous_file.unlink(missing_ok=True)
        try:
            os.link(self.last_file, self.previous_file)
        except OSError:  # a file system without links
            self.last_file.replace(self.previous_file)


class DamageError(UserError):
    """A state that is not as it was written."""

    def __init__(self, path: Path, error: Exception) -> None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.fault = f"{path} is damaged or was not written by resnetlab ({reason})"
        super().__init__(f"{self.fault}; remove it, and `resnetlab resume` starts the run anew.")


def read_state(path: Path) -> dict[str, Any]:
    """What ``States.write`` wrote; UserError if there is no such file or it is not whole."""
    try:
        check_zip(path)
        with path.open("rb") as file:  # of a path, torch would go by the ending
            values = torch.load(file, map_location="cpu", weights_only=True)
        later = values.get("format", FORMAT) > FORMAT
        stated = values.pop("digest", None)
        if not later and stated not in (None, digest(values)):
            raise ValueError("its SHA-256 is not the one that it states")
        values.pop("format", None)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}.") from None
    except _DAMAGE as error:
        raise DamageError(path, error) from error
    if later:
        raise UserError(f"{path} is of a later version of resnetlab; update this one.")
    return values


def _check_on_disk(path: Path) -> None:
    """OSError if a state that was just written is not read back from the disk as it was."""
    flush(path)
    if hasattr(os, "posix_fadvise"):  # or else it would come from memory
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    try:
        read_state(path)
    except DamageError as error:
        raise OSError(None, "the disk does not give back what was written") from error
