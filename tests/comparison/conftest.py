"""The networks of ``cases.py`` and ``textbooks.py`` can be imported by their names."""

import ctypes
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def give_memory_back():
    """Each test's networks to the system: an earlier test may have told glibc to keep memory."""
    yield
    if hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
        trim.malloc_trim(0)
