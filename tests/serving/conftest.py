"""What tests of the service share: real servers, real images, a network that computes nothing."""

import io
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors.numpy import load_file

from resnetlab.preprocessing import Preprocessing

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(kw_only=True)
class Server:
    """A process that serves, and a client of it."""

    process: subprocess.Popen[str]
    url: str
    client: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx2.Client(base_url=self.url, timeout=20)
        self.port = int(self.url.rpartition(":")[2])

    def until_ready(self) -> "Server":
        give_up = time.monotonic() + 150
        while time.monotonic() < give_up:
            try:
                if self.client.get("/ready").status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"it does not serve: {self.process.poll()}")

    def raw(self, *parts: bytes, pause: float = 0, timeout: float = 30) -> bytes:
        """What the server says to these bytes until it closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            for part in parts:
                try:
                    connection.sendall(part)
                except (BrokenPipeError, ConnectionResetError):
                    break
                time.sleep(pause)
            answer = b""
            while True:
                try:
                    more = connection.recv(65536)
                except ConnectionResetError:
                    break
                if not more:
                    break
                answer += more
        return answer

    def memory_mb(self) -> float:
        process = psutil.Process(self.process.pid)
        return (
            sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
            / 2**20
        )


@contextmanager
def serving(
    *words: object, network: str = "resnet20-cifar10", port: int = 0, faults: bool = False
) -> Iterator[Server]:
    """A real server, ended with SIGTERM; ``faults``: whether it may log a traceback."""
    command = [sys.executable, "-m", "resnetlab", "serve", network, "--port", str(port)]
    command += ["--backend", "torch"]  # auto would measure first
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, *map(str, words)], stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout
        try:
            line = process.stdout.readline()
            found = re.search(r"http://[^\s]+", line)
            assert found, line
            server = Server(process=process, url=found[0]).until_ready()
            yield server
            server.client.close()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=150)
            log.seek(0)
            logged = log.read()
        assert faults or "Traceback" not in logged, logged


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A network that comes with the package, served with small limits."""
    limits = ("--max-megabytes", 4, "--max-megapixels", 20, "--max-images", 8)
    with serving(*limits, "--deadline", 20) as server:
        yield server


@pytest.fixture(scope="session")
def pictures(samples: Path) -> list[bytes]:
    """20 real images as PNG files."""
    images = load_file(samples / "cifar10-sample" / "test.safetensors")["images"]
    return [png(pixels) for pixels in images[:20]]


def png(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    image.save(file := io.BytesIO(), format, **options)
    return file.getvalue()


class FakeNetwork:
    """Class 0 with the mean of an image's pixels as its logit; counts its batches."""

    name = "a fake"
    classes = ("bright", "dark")
    preprocessing = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1), size=4)
    temperature = 1.0
    threshold = None
    batch_size = 4

    def __init__(self, seconds: float = 0) -> None:
        self.batches: list[int] = []
        self.seconds = seconds

    def read(self, data: bytes) -> np.ndarray:
        return np.full((3, 4, 4), data[0], np.uint8)

    def logits(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        time.sleep(self.seconds)
        if (images == 255).any():
            raise RuntimeError("planted")
        means = images.mean(axis=(1, 2, 3))
        means[means == 254] = np.nan
        return np.stack([means / 100, np.zeros_like(means)], axis=1)

    def class_maps(self, images: np.ndarray, labels: np.ndarray) -> None:
        return None
