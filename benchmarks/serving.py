"""The service under load, against the offline rate and a tutorial's server; and for long.

`python -m benchmarks.serving load` takes about 10 minutes, `... soak` 10 minutes; `--seconds 3`
shows that everything runs. Everything happens on this machine's 127.0.0.1, the clients included.
"""

from __future__ import annotations

import argparse
import io
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.clients import Seen, ask, form
from resnetlab.benchmark import machine

CONNECTIONS = 64


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("what", choices=("load", "soak"))
    parser.add_argument("--seconds", type=float, help="of a turn; 60 for load, 600 for soak")
    parser.add_argument("--models", nargs="+", default=["resnet20", "resnet50"])
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            network, images = prepare(model, Path(folder))
            if options.what == "load":
                files = Path(folder) / "files" / model
                files.mkdir(parents=True)
                for number, image in enumerate(images):
                    (files / f"{number:02}").write_bytes(image)
                load(model, network, files, options.backend, options.seconds or 60)
            else:
                soak(model, network, images, options.backend, options.seconds or 600)


def prepare(model: str, folder: Path) -> tuple[str, list[bytes]]:
    """A network by its name or file, and image files as cameras write them."""
    random = np.random.default_rng(0)
    if model == "resnet20":
        return "resnet20-cifar10", [photograph(random, 32, "PNG") for _ in range(64)]
    import torch

    from resnetlab import create_model, save_weights

    torch.manual_seed(0)
    path = folder / f"{model}.safetensors"
    save_weights(create_model(model).eval(), path)
    return str(path), [photograph(random, 256, "JPEG") for _ in range(64)]


def photograph(random: np.random.Generator, size: int, format: str) -> bytes:
    """Smooth colours with a little noise, whose file is as large as a photograph's of that size."""
    coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    noisy = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file := io.BytesIO(), format, quality=90)
    return file.getvalue()


@contextmanager
def started(*command: str) -> Iterator[tuple[int, psutil.Process]]:
    """A server's port and process, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", *(w.format(port=port) for w in command)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"{command[0]} ended with {process.returncode}")
                time.sleep(0.2)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def offline(network: str, folder: Path, backend: str, seconds: float) -> tuple[float, float]:
    """Images/s in full batches alone, and from files; in a process of its own."""
    words = ("benchmarks.offline_rate", network, str(folder), backend, str(seconds))
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    alone, files = map(float, done.stdout.split())
    return alone, files


def load(model: str, network: str, folder: Path, backend: str, seconds: float) -> None:
    """Offline, ours, the tutorial's, and the same in reverse; ratios within each half."""
    images = [file.read_bytes() for file in sorted(folder.iterdir())]
    requests = [form(image) for image in images]
    kilobytes = statistics.mean(map(len, images)) / 1000
    print(f"\n## {model}: {CONNECTIONS} connections, files of {kilobytes:.0f} kB")
    ours = ("resnetlab", "serve", network, "--port", "{port}", "--backend", backend)
    tutorial = ("benchmarks.tutorial_server", network, "{port}")
    rates: dict[str, list[float]] = {"alone": [], "files": [], "ours": [], "tutorial": []}

    def measure_offline() -> None:
        alone, files = offline(network, folder, backend, seconds / 6)
        print(f"offline: {alone:,.1f} images/s computed, {files:,.1f} from files", flush=True)
        rates["alone"].append(alone)
        rates["files"].append(files)

    def measure(name: str, command: tuple[str, ...]) -> None:
        with started(*command) as (port, server):
            ask(port, requests, connections=CONNECTIONS, seconds=seconds / 20)  # warm up
            before = sum(server.cpu_times()[:2]), time.process_time()
            seen = ask(port, requests, connections=CONNECTIONS, seconds=seconds)
            after = sum(server.cpu_times()[:2]), time.process_time()
            took, clients = ((b - a) / seen.seconds for a, b in zip(before, after, strict=True))
            print(f"{name}: {seen}; {took:.2f} cores, the clients {clients:.2f}", flush=True)
            rates[name].append(seen.rate)

    turns = (
        measure_offline,
        lambda: measure("ours", ours),
        lambda: measure("tutorial", tutorial),
    )
    for turn in (*turns, *reversed(turns)):
        turn()
    for other in ("alone", "files", "tutorial"):
        ratios = [a / b for a, b in zip(rates["ours"], rates[other], strict=True)]
        print(f"ours / {other}: {' and '.join(f'{ratio:.2f}' for ratio in ratios)}")


def soak(model: str, network: str, images: list[bytes], backend: str, seconds: float) -> None:
    """Good and bad images, heat maps, and clients that go away, for long: is the memory flat?"""
    bad = [form(b"no image"), form(images[0][:200]), form(b"")]
    requests = [form(image, "/predict?heat_map=true") for image in images[:8]]
    requests += [form(image) for image in images] + bad
    print(f"\n## {model}: {seconds:g} s of mixed requests over 16 connections")
    with started("resnetlab", "serve", network, "--port", "{port}", "--backend", backend) as (
        port,
        process,
    ):
        memory, total = [], Seen()
        for _ in range(30):
            seen = ask(port, requests, connections=16, seconds=seconds / 30)
            go_away(port, 20)
            memory.append(process.memory_info().rss / 2**20)
            total.seconds += seen.seconds
            total.latencies += seen.latencies
            total.failures += seen.failures
            for status, n in seen.statuses.items():
                total.statuses[status] = total.statuses.get(status, 0) + n
        print(total)
        print(f"resident memory, MB: {', '.join(f'{each:.0f}' for each in memory)}")
        first, last = statistics.median(memory[5:10]), statistics.median(memory[-5:])
        print(f"from the second sixth to the last: {last - first:+.0f} MB")
        print(f"open files at the end: {process.num_fds()}, threads {process.num_threads()}")


def go_away(port: int, times: int) -> None:
    """Clients that leave in the middle of a request."""
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(form(bytes(10**5))[:5000])


if __name__ == "__main__":
    main()
