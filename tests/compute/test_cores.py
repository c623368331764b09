import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resnetlab.compute import cores
from resnetlab.compute.cores import FIRST_REST, WINDOW, Cores

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)


class Machine:
    """A clock, and other programs that leave our threads waiting; steps take what they are told."""

    def __init__(self, monkeypatch):
        self.now = self.waited = 0.0
        self.busy = False
        self.said = []
        monkeypatch.setattr(cores.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(cores, "_waited", lambda: self.waited)

    def work(self, watched, windows, *, on_all, on_fewer, kind=None):
        """Windows of steps, whose seconds depend on where we are; where we were in each."""
        places = []
        for _ in range(windows):
            began = self.now
            where = allowed()
            while self.now - began < WINDOW and allowed() == where:
                seconds = on_all if where == everywhere else on_fewer
                self.now += seconds
                self.waited += seconds if self.busy else 0.0
                watched.count(seconds, kind)
            places.append("all" if where == everywhere else "fewer")
        return places


everywhere = {*os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set()


def allowed():
    (all_alike,) = {
        frozenset(os.sched_getaffinity(int(task.name)))
        for task in Path("/proc/self/task").iterdir()
    }
    return all_alike


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_nothing_moves_while_nobody_else_works(machine):
    with Cores(2, machine.said.append) as watched:
        assert {*machine.work(watched, 100, on_all=0.1, on_fewer=0.01)} == {"all"}
    assert not machine.said


def test_fewer_cores_are_kept_while_they_are_faster_and_said_once(machine):
    machine.busy = True
    with Cores(2, machine.said.append) as watched:
        places = machine.work(watched, 100, on_all=0.2, on_fewer=0.1)
        assert places[0] == "all"
        assert places[1:].count("all") < 10  # trials, fewer and fewer of them
        assert places[-1] == "fewer"
        machine.busy = False
        after = machine.work(watched, 400, on_all=0.05, on_fewer=0.1)
        assert after[-1] == "all"
        assert after.count("fewer") * WINDOW < 130  # two of the longest rests
    assert len(machine.said) == 1
    assert "2.0 times; the results stay the same" in machine.said[0]


def test_a_trial_that_does_not_pay_is_taken_back_and_made_more_rarely(machine):
    machine.busy = True
    with Cores(2, machine.said.append) as watched:
        places = machine.work(watched, 400, on_all=0.1, on_fewer=0.1)
    trials = [n for n, place in enumerate(places) if place == "fewer"]
    assert all(places[n + 1] == "all" for n in trials)
    gaps = [later - n for n, later in itertools.pairwise(trials)]
    assert gaps[0] * WINDOW >= FIRST_REST
    assert gaps == sorted(gaps)
    assert not machine.said


def test_steps_of_another_kind_are_not_compared(machine):
    machine.busy = True
    with Cores(2, machine.said.append) as watched:
        machine.work(watched, 1, on_all=0.1, on_fewer=0.1, kind="small")
        assert allowed() != everywhere  # a trial has begun
        # These take half as long for what they are, which says nothing of the cores.
        machine.work(watched, 1, on_all=0.05, on_fewer=0.05, kind="smaller still")
        assert not machine.said


def test_all_threads_may_run_everywhere_again_at_the_end(machine):
    machine.busy = True
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with pytest.raises(KeyboardInterrupt), Cores(2, machine.said.append) as watched:  # noqa: PT012
        machine.work(watched, 2, on_all=0.2, on_fewer=0.1)
        assert len(allowed()) == len(everywhere) - 1
        raise KeyboardInterrupt
    assert allowed() == everywhere
    done.set()
    thread.join()


def test_one_thread_has_nobody_to_wait_for(machine):
    machine.busy = True
    with Cores(1, machine.said.append) as watched:
        assert {*machine.work(watched, 20, on_all=0.2, on_fewer=0.1)} == {"all"}


def test_threads_that_wait_for_a_core_are_seen():
    """Four threads that compute on one core wait three quarters of the time."""
    core = {min(everywhere)}
    script = (
        "import hashlib, os, threading, time\n"
        "from resnetlab.compute.cores import _waited\n"
        f"os.sched_setaffinity(0, {core})\n"
        "work = lambda: [hashlib.sha256(bytes(2**22)) for _ in iter(int, 1)]\n"  # without end
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "before, began = _waited(), time.monotonic()\n"
        "[thread.start() for thread in threads]; time.sleep(0.5)\n"
        "waited, passed = _waited() - before, time.monotonic() - began\n"
        "print(waited / passed > 0.5); os._exit(0)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
