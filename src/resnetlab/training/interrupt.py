"""Ctrl-C as a wish: the step at hand is finished, the work kept."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGINT or SIGTERM sets; a later second one interrupts at once.

    Later, because under torchrun one Ctrl-C comes twice: from the terminal and from torchrun.
    """
    stop = threading.Event()
    asked = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if stop.is_set() and time.monotonic() - asked > 1:
            raise KeyboardInterrupt
        if not stop.is_set():
            asked = time.monotonic()
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
