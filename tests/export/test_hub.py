"""A hub repository: as a folder, and sent to an endpoint."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from huggingface_hub import ModelCard

from resnetlab.export.hub import push
from resnetlab.runs import Run
from resnetlab.weights.checkpoint import load_checkpoint


def test_a_folder_is_a_source_again_with_all_facts(smoke, tmp_path):
    folder = push(smoke.run, str(tmp_path / "mine"))
    first, again = load_checkpoint(smoke.run), load_checkpoint(folder)
    for fact in ("architecture", "classes", "preprocessing", "temperature", "threshold", "dataset"):
        assert getattr(again, fact) == getattr(first, fact)
    assert all((again.weights[name] == value).all() for name, value in first.weights.items())
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.library_name == "resnetlab"
    result = Run(smoke.run).result
    assert {r.metric_type: r.metric_value for r in card.data.eval_results}["accuracy"] == (
        pytest.approx(result["top1"] / 100)
    )
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert config["id2label"]["3"] == "cat"
    assert str(smoke.run.parent) not in json.dumps(config)
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other files"):
        push(smoke.run, str(tmp_path / "mine"))


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks for when a small folder is uploaded."""

    received: ClassVar[list] = []

    def log_message(self, *words):
        pass

    def answer(self, value, code=200):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"sha": "0" * 40, "id": "me/mine", "siblings": []})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.received.append((self.path, body, self.headers.get("Authorization")))
        address = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path == "/api/repos/create":
            self.answer({"url": f"{address}/me/mine"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self.answer(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in files
                    ]
                }
            )
        elif "/commit/" in self.path:
            self.answer(
                {"commitUrl": f"{address}/me/mine/commit/1", "commitOid": "1", "success": True}
            )
        else:
            self.answer({}, 404)


@pytest.fixture
def endpoint():
    Hub.received.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def send(endpoint, repository):
    """A process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    words = [sys.executable, "-m", "resnetlab", "push", "resnet20-cifar10", repository]
    variables = os.environ | {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_secret"}
    return subprocess.run(words, capture_output=True, text=True, env=variables)


def test_an_endpoint_gets_the_three_files(endpoint):
    done = send(endpoint, "me/mine")
    assert (done.returncode, done.stdout) == (0, f"{endpoint}/me/mine\n"), done.stderr
    paths = [path for path, _, _ in Hub.received]
    assert paths[0] == "/api/repos/create"
    (commit,) = (body for path, body, _ in Hub.received if "/commit/" in path)
    lines = [json.loads(line) for line in commit.decode().splitlines()]
    sent = {line["value"]["path"] for line in lines if line["key"] == "file"}
    assert sent == {"model.safetensors", "config.json", "README.md"}
    assert {token for path, _, token in Hub.received if "/commit/" in path} == {"Bearer hf_secret"}


def test_a_hub_that_refuses_is_one_sentence(endpoint, monkeypatch):
    monkeypatch.setattr(Hub, "do_POST", lambda self: self.answer({"error": "no"}, 403))
    done = send(endpoint, "me/mine")
    assert done.returncode == 2
    assert "resnetlab: me/mine cannot be written: " in done.stderr
    assert "Traceback" not in done.stderr
    done = send(endpoint, "a/b/c")
    assert "'a/b/c' is no name of a repository; give user/name" in done.stderr
