"""Two hosts without common storage: network namespaces of this machine, joined by a cable."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnetlab.runs import Run

pytestmark = pytest.mark.skipif(
    os.environ.get("RESNETLAB_FAULTS") != "long", reason="RESNETLAB_FAULTS=long asks for it"
)
TRAIN = ("train", "smoke", "--out", "run", "--execution", "plain", "--checkpoint-minutes", "0.001")


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def hosts(tmp_path):
    """A function that starts a command on both: two processes, each with a folder of its own."""
    names, started = ("fa", "fb"), []
    try:
        for name in names:
            ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root and iproute2")
    ip("link", "add", "va", "type", "veth", "peer", "name", "vb")
    for name, number in (("a", 1), ("b", 2)):
        ip("link", "set", f"v{name}", "netns", f"f{name}")
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", f"v{name}", "up"),
            ("addr", "add", f"10.77.0.{number}/24", "dev", f"v{name}"),
        ):
            ip("-n", f"f{name}", *words)

    def start(*words):
        both = []
        for rank, name in enumerate("ab"):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
            torchrun += ["--nproc-per-node", "1", "--node-rank", str(rank)]
            torchrun += ["--master-addr", "10.77.0.1", "--master-port", "29511"]
            command = ["ip", "netns", "exec", f"f{name}", *torchrun, "-m", "resnetlab"]
            place = {"GLOO_SOCKET_IFNAME": f"v{name}", "OMP_NUM_THREADS": "1"}
            with open(folder / "log", "ab") as log:
                both.append(
                    subprocess.Popen(
                        [*command, *map(str, words)],
                        cwd=folder,
                        env=os.environ | place,
                        stdout=log,
                        stderr=log,
                    )
                )
        started.extend(both)
        return both

    yield start
    for process in started:
        if process.poll() is None:
            kill(process)
    for name in names:
        ip("netns", "del", name)


def wait_for_step(run, step, seconds=300):
    end = time.monotonic() + seconds
    while Run(run).progress.get("step", 0) < step or not (run / "last.pt").exists():
        assert time.monotonic() < end, "nothing is trained"
        time.sleep(0.5)


def kill(process):
    """It and all that it has started."""
    tree, left = [], [process.pid]
    while left:
        tree.append(left.pop())
        with contextlib.suppress(OSError):
            left += map(int, Path(f"/proc/{tree[-1]}/task/{tree[-1]}/children").read_text().split())
    for number in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait(30)


def test_two_hosts_train_and_resume_from_the_folder_of_the_first(hosts, samples, tmp_path):
    data = ("--data-dir", samples)
    both = hosts(*TRAIN, *data, "--epochs", "400")
    a, b = tmp_path / "a", tmp_path / "b"
    wait_for_step(a / "run", 30)
    assert not (b / "run").exists()
    subprocess.run(["cp", "-r", a / "run", b / "run"], check=True)  # a copy that grows old
    wait_for_step(a / "run", 60)
    for process in both:
        kill(process)
    stale = (b / "run" / "last.pt").read_bytes()
    both = hosts("resume", "run")
    step = Run(a / "run").last["step"]
    wait_for_step(a / "run", step + 20)
    # a cut of half a minute is waited out
    ip("-n", "fa", "link", "set", "va", "down")
    time.sleep(30)
    ip("-n", "fa", "link", "set", "va", "up")
    time.sleep(40)
    assert [process.poll() for process in both] == [None, None]
    # a host that is lost for good ends the other within two minutes
    began = time.monotonic()
    ip("-n", "fb", "link", "set", "vb", "down")
    kill(both[1])
    assert both[0].wait(150) != 0
    assert time.monotonic() - began < 120
    # and when it is back, both go on once more
    ip("-n", "fb", "link", "set", "vb", "up")
    again = Run(a / "run").last["step"]
    hosts("resume", "run")
    wait_for_step(a / "run", again + 20)
    log = (a / "log").read_text()
    assert f"resuming after step {step:,} of" in log
    assert f"resuming after step {again:,} of" in log
    assert "has not been heard of for 90 seconds; its machine or the network failed" in log
    assert "site-packages/torch/nn" not in log  # torchrun has a traceback of its own, we none
    assert 'resnetlab/training/loop.py", line' not in log
    assert (b / "run" / "last.pt").read_bytes() == stale
