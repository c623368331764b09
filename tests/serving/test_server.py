"""The process: who may reach it, how it starts and stops, and what it survives."""

import contextlib
import os
import re
import signal
import socket
import threading
import time

import httpx2
import psutil
import pytest

from resnetlab.errors import UserError
from resnetlab.serving.settings import Settings

from .conftest import TOKEN, FakeNetwork, Server, serving
from .inprocess import served


def request(data: bytes) -> bytes:
    head = f"POST /predict?topk=1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n"
    return f"{head}content-type: image/png\r\n\r\n".encode() + data


def test_killed_it_starts_again_and_terminated_it_answers_what_was_sent(pictures):
    with serving() as first:
        stop = threading.Event()

        def ask():
            with httpx2.Client(base_url=first.url) as client:
                while not stop.is_set():
                    try:
                        client.post("/predict", files={"image": pictures[0]})
                    except httpx2.TransportError:
                        return

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        first.process.kill()  # SIGKILL
        stop.set()
        for thread in threads:
            thread.join()
    with serving(port=first.port) as second:
        connections = [
            socket.create_connection(("127.0.0.1", second.port), timeout=60) for _ in range(64)
        ]
        for i, connection in enumerate(connections):
            connection.sendall(request(pictures[i % 20]))
        second.process.send_signal(signal.SIGTERM)
        answers = []
        for connection in connections:
            answer = b""
            while more := connection.recv(65536):
                answer += more
            answers.append(answer)
            connection.close()
        assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 64
        assert all(b'"predictions":[{"class"' in answer for answer in answers)
        assert second.process.wait(timeout=30) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", second.port))


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Server:
    """Two processes that ask for a token."""
    file = tmp_path_factory.mktemp("secret") / "token"
    file.write_text(TOKEN + "\n")
    words = ("--workers", 2, "--token-file", file, "--host", "0.0.0.0")
    with serving(*words) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        yield server


def test_a_token_is_asked_for_but_not_by_probes_and_the_page(several, pictures):
    files = {"image": pictures[0]}
    for path in ("/health", "/ready", "/", "/docs", "/openapi.json", "/static/page.js"):
        assert several.client.get(path).status_code == 200
    for path in ("/model", "/metrics", "/nothing"):
        answer = several.client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for wrong in (
        "",
        "Bearer",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}0",
        f"Basic {TOKEN}",
        "Bearer \xff",
    ):
        headers = {"authorization": wrong.encode("latin-1")}
        assert several.client.post("/predict", files=files, headers=headers).status_code == 401
    headers = {"authorization": f"Bearer {TOKEN}", "host": "any.example"}
    assert several.client.post("/predict", files=files, headers=headers).status_code == 200


def test_several_processes_share_the_work_and_the_metrics_and_one_that_dies_is_replaced(
    several, pictures
):
    headers = {"authorization": f"Bearer {TOKEN}"}

    def ask():
        for _ in range(5):  # a new connection each time, so that any process may take it
            answer = httpx2.post(
                f"{several.url}/predict", files={"image": pictures[0]}, headers=headers, timeout=60
            )
            assert answer.status_code == 200

    def predicted():
        text = httpx2.get(f"{several.url}/metrics", headers=headers, timeout=60).text
        assert not re.search(r"^resnetlab_queue_images [^0]", text, re.M)
        return float(re.search(r'^resnetlab_images_total{result="predicted"} (\S+)', text, re.M)[1])

    before = predicted()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert predicted() == before + 20

    def workers():
        found = set()
        for child in psutil.Process(several.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it has just died
                if "spawn_main" in " ".join(child.cmdline()):
                    found.add(child.pid)
        return found

    old = workers()
    assert len(old) == 2
    os.kill(min(old), signal.SIGKILL)
    deadline = time.monotonic() + 120
    while len(workers() - {min(old)}) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers() - {min(old)}) == 2
    for _ in range(5):
        assert httpx2.get(f"{several.url}/ready", timeout=60).status_code == 200
    assert predicted() == before + 20  # what the dead one counted is not lost


def test_a_full_queue_and_a_server_fault_over_http(capfd):
    with served(FakeNetwork(seconds=0.5), max_queue=2, max_images=2) as server:

        def ask(value):
            answers.append(
                server.client.post(
                    "/predict", content=bytes([value]), headers={"content-type": "image/png"}
                )
            )

        answers = []
        threads = [threading.Thread(target=ask, args=(value,)) for value in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert all(
            int(answer.headers["retry-after"]) >= 1
            for answer in answers
            if answer.status_code == 429
        )
        answers.clear()
        for value in (254, 255, 1):
            ask(value)
        not_finite, fault, fine = answers
        assert (not_finite.status_code, fault.status_code, fine.status_code) == (422, 500, 200)
        assert "not finite" in not_finite.json()["error"]
        assert fault.json() == {"error": "the server failed; its log says why."}
        assert "planted" in capfd.readouterr().err


def test_limits_that_do_not_go_together():
    with pytest.raises(UserError, match="`max_queue` 3 must be at least `max_images` 4"):
        Settings(max_queue=3, max_images=4)
    with pytest.raises(UserError, match="`deadline`"):
        Settings(deadline=0)
    with pytest.raises(UserError, match="`min_confidence` must be at most 100"):
        Settings(min_confidence=101)
