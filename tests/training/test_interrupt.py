import os
import signal
import threading
import time

import pytest

from resnetlab.runs import Run
from resnetlab.training.interrupt import stop_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_wish_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with stop_signal() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)  # the same Ctrl-C, passed on by torchrun
    assert signal.getsignal(number) is before


def test_the_first_signal_is_answered_at_once():
    said = []
    with stop_signal(said.append):
        signal.raise_signal(signal.SIGINT)
        assert said == ["finishing this step; press Ctrl-C again to stop now"]
        signal.raise_signal(signal.SIGINT)
    assert len(said) == 1


def test_an_answer_to_a_terminal_that_is_gone_stops_nothing():
    def answer(line):
        raise OSError(5, "Input/output error")

    with stop_signal(answer) as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_is_ignored_stays_ignored(number):
    """As under nohup, and of what a shell starts in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_signal() as stop:
            signal.raise_signal(number)
            assert not stop.is_set()
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_terminal_that_is_closed_costs_nothing(start, samples, tmp_path):
    """The process gets SIGHUP, and nothing can be written any more."""
    terminal, other = os.openpty()
    words = ("train", "smoke", "--data-dir", samples, "--out", tmp_path / "run")
    words += ("--epochs", 400, "--execution", "plain")
    process = start(*words, stdout=other, stderr=other, stdin=other, start_new_session=True)
    os.close(other)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        os.read(terminal, 4096)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    process.wait(60)
    assert Run(tmp_path / "run").last["step"] >= 3


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
