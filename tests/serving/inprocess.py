"""A server in a thread of this process, with a network that computes nothing."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from uvicorn import Server as Uvicorn

from resnetlab.serving.api import Service, create_app, paths
from resnetlab.serving.engine import Engine
from resnetlab.serving.guard import Guard
from resnetlab.serving.metrics import Metrics
from resnetlab.serving.server import _config
from resnetlab.serving.settings import Settings

from .conftest import FakeNetwork, Server


@contextmanager
def served(
    network: FakeNetwork | None = None, *, token: str | None = None, **limits
) -> Iterator[Server]:
    settings, metrics = Settings(**limits), Metrics()
    service = Service(Engine(network or FakeNetwork()), settings, metrics, "a fake")
    app = create_app(service, examples={})
    guard = Guard(
        app, settings=settings, metrics=metrics, hosts=None, token=token, paths=paths(app)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    uvicorn = Uvicorn(_config(guard, settings))
    thread = threading.Thread(target=uvicorn.run, args=([listener],))
    thread.start()
    while not uvicorn.started:
        time.sleep(0.01)
    process = cast(subprocess.Popen, None)
    server = Server(process=process, url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        yield server
    finally:
        server.client.close()
        uvicorn.should_exit = True
        thread.join()
