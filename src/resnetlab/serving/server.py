"""``serve``: a network behind HTTP, in one process or several."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from resnetlab.arguments import check_types
from resnetlab.compute.machine import available_cores
from resnetlab.console import print_line, print_to_stderr, waiting
from resnetlab.errors import UserError, reason_of
from resnetlab.files import reading, user_path
from resnetlab.serving.network import Source
from resnetlab.serving.settings import Settings

if TYPE_CHECKING:
    from resnetlab.serving.guard import Guard

_LEAST_TOKEN = 16
_MOST_EXAMPLES = 12
_FAILED = 3
"""uvicorn's exit code of a process that could not start, and that is not started again"""


@check_types
def serve(
    network: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    allow_anonymous: bool = False,
    workers: int = 1,
    examples: str | Path | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> None:
    """Serve a network over HTTP until Ctrl-C or SIGTERM; what was sent by then is answered.

    POST /predict, GET /model, /health, /ready, /metrics; a page for people at / and a reference at
    /docs. Nothing is fetched from anywhere, and no image is kept.

    Args:
        network: What ``Predictor`` takes by name.
        host: Where to listen. Other than on this computer's own addresses (127.0.0.1, ::1) a
            ``token_file`` is needed, or ``allow_anonymous``.
        port: 0: any that is free.
        token_file: A file with the token that clients must send.
        allow_anonymous: Let everybody who can reach ``host`` ask.
        workers: Processes, each with the network in its memory.
        examples: A folder of images that the page offers to try.
        settings: Limits.
        options: Of ``Predictor``.

    Raises:
        UserError: There is no such network, the port is taken, or an option is wrong.
    """
    _require_libraries()
    settings = settings or Settings()
    if workers < 1:
        raise UserError(f"`workers` must be at least 1, not {workers}.")
    token = None if token_file is None else _read_token(token_file)
    loopback = _is_loopback(host)
    if not (loopback or token or allow_anonymous):
        raise UserError(
            f"others can reach `host` {host}: give a `token_file`, or `allow_anonymous` to let "
            "everybody ask."
        )
    make_app = MakeApp(
        source=Source(network=network, options=options),
        settings=settings,
        token=token,
        hosts=_own_names(host) if loopback and token is None else None,
        examples=None if examples is None else _read_examples(examples),
    )
    run = _run_one if workers == 1 else _run_several
    with _bind(host, port) as listener:
        address = _address(listener)
        run(make_app, listener, workers, f"Serving {make_app.source.name} at {address}")


@dataclass(frozen=True, kw_only=True)
class MakeApp:
    """All that a process needs to make its application."""

    source: Source
    settings: Settings
    token: str | None
    hosts: frozenset[str] | None
    examples: Mapping[str, bytes] | None
    """None: what the page has for this network"""

    def __call__(self) -> Guard:
        """Raises UserError: There is no such network."""
        from PIL import Image

        from resnetlab.serving import page
        from resnetlab.serving.api import Service, create_app, paths
        from resnetlab.serving.engine import Engine
        from resnetlab.serving.guard import Guard
        from resnetlab.serving.metrics import Metrics

        # What is wrong with a form is told to its client; a log is not for clients to fill.
        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
        Image.MAX_IMAGE_PIXELS = self.settings.max_megapixels * 10**6  # of the whole process
        metrics = Metrics()
        engine = Engine(self.source.load())
        examples = self.examples
        if examples is None:
            examples = page.examples_for(engine.network.classes)
        service = Service(engine, self.settings, metrics, self.source.name)
        app = create_app(service, examples=examples)
        return Guard(
            app,
            settings=self.settings,
            metrics=metrics,
            hosts=self.hosts,
            token=self.token,
            paths=paths(app),
        )


def make_app_or_exit(make_app: MakeApp) -> Guard:
    """The application of one process of several; what cannot be loaded is said in a sentence."""
    kept = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # there is nothing to drain yet
    try:
        return make_app()
    except UserError as error:
        print_to_stderr(f"resnetlab: {error}")
        sys.exit(_FAILED)
    finally:
        signal.signal(signal.SIGTERM, kept)


def _run_one(make_app: MakeApp, listener: socket.socket, _: int, announcement: str) -> None:
    from uvicorn import Server

    with waiting(f"loading {make_app.source.name}"):
        app = make_app()
    listener.listen(2048)
    print_line(announcement)
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, _leave)  # the server has its own while it runs
    Server(_config(app, make_app.settings)).run([listener])


def _run_several(
    make_app: MakeApp, listener: socket.socket, workers: int, announcement: str
) -> None:
    from functools import partial

    from uvicorn.supervisors import Multiprocess

    threads = max(1, available_cores() // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of each process
    with tempfile.TemporaryDirectory(prefix="resnetlab-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        make = partial(make_app_or_exit, make_app)
        config = _config(make, make_app.settings, workers=workers, factory=True)
        supervisor = Multiprocess(config, [listener])
        print_line(f"{announcement} in {workers} processes")
        sys.stdout.flush()
        supervisor.run()
    if any(process.exitcode == _FAILED for process in supervisor.processes):
        sys.exit(2)


def _config(app: Any, settings: Settings, **options: Any) -> Any:
    from uvicorn import Config

    from resnetlab.serving.protocol import Protocol

    return Config(
        app,
        interface="asgi3",
        loop="asyncio",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=1000,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=settings.drain_seconds,
        timeout_worker_healthcheck=20,
        **options,
    )


def _leave(_: int, __: FrameType | None) -> NoReturn:
    sys.exit(0)


def _require_libraries() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"serving needs {error.name}, which is not installed: pip install 'resnetlab[serve]'"
        ) from error


def _read_token(file: str | Path) -> str:
    path = user_path(file)
    with reading(path):
        content = path.read_bytes()
    token = content.decode("ascii", "replace").strip()
    if len(token) < _LEAST_TOKEN or not token.isprintable() or " " in token or "\ufffd" in token:
        raise UserError(
            f"`token_file` {path} must hold one word of at least {_LEAST_TOKEN} letters and "
            "digits, e.g. what `openssl rand -hex 32` prints."
        )
    return token


def _read_examples(folder: str | Path) -> dict[str, bytes]:
    from resnetlab.data.find import find_images

    files = sorted(map(Path, map(str, find_images([folder]))))[:_MOST_EXAMPLES]
    return {f"{n}{file.suffix.lower()}": file.read_bytes() for n, file in enumerate(files, 1)}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_names(host: str) -> frozenset[str]:
    return frozenset({"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"})


def _bind(host: str, port: int) -> socket.socket:
    """A socket that does not listen yet, so that nobody connects before the network is loaded."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found)  # IPv4 before IPv6
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on `host` {host}, `port` {port}: {reason_of(error)}."
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on `host` {host}, `port` {port}: {reason_of(error)}; give another "
            "`port`, or 0 for any that is free."
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
