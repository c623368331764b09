"""The networks of ``cases.py`` and ``textbooks.py`` can be imported by their names."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

LARGE = 2**30
"""Bytes in use from which a test's networks go back to the system."""
STATE = Path("/proc/self/statm")


@pytest.fixture(autouse=True)
def give_memory_back():
    """An earlier test of the same process may have told glibc to keep all memory."""
    yield
    if STATE.exists() and int(STATE.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") > LARGE:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)
        trim(0)
