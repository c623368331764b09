import signal
import threading
import time

import pytest

from resnetlab.training.interrupt import stop_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_wish_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with stop_signal() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)  # the same Ctrl-C, passed on by torchrun
    assert signal.getsignal(number) is before


def test_a_later_second_one_interrupts(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with stop_signal():
        signal.raise_signal(signal.SIGINT)
        now += 0.5
        signal.raise_signal(signal.SIGINT)
        now += 0.6
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_another_thread_is_not_interrupted():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with stop_signal() as stop:
            seen.append((stop.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
