"""Ctrl-C as a request: the step at hand is finished, the work kept."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Ctrl-C, what ends a job, and a terminal that is closed (which Windows does not tell)."""


@contextmanager
def stop_signal(answer: Callable[[str], None] = lambda line: None) -> Iterator[threading.Event]:
    """Yield an event that one of ``SIGNALS`` sets; a later second one interrupts at once.

    Later, because under torchrun one Ctrl-C comes twice: from the terminal and from torchrun.
    ``answer`` is told a line at the first one. A signal that this process ignores, as under nohup,
    stays ignored.
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
            # The terminal may be gone, or amid a line that it writes: then nothing is said.
            with suppress(OSError, RuntimeError):
                answer("finishing this step; press Ctrl-C again to stop now")

    found = {number: signal.getsignal(number) for number in SIGNALS}
    before = {n: handler for n, handler in found.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
