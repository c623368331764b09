"""``resnetlab serve``: what it refuses before it serves; tests/serving has the rest."""

import socket
import sys

import pytest


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_than_loopback_needs_a_token_or_a_word(resnetlab, assert_sentence, host):
    answer = resnetlab("serve", "resnet20-cifar10", "--host", host)
    assert_sentence(answer, rf"others can reach --host {host}: give a --token-file, or --allow-an")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [(b"short", "at least 16"), (b"two words of a token", "one word"), (b"\xff" * 20, "one word")],
)
def test_a_token_that_is_none(resnetlab, assert_sentence, tmp_path, content, wanted):
    (tmp_path / "token").write_bytes(content)
    answer = resnetlab("serve", "resnet20-cifar10", "--token-file", tmp_path / "token")
    assert_sentence(answer, wanted)
    answer = resnetlab("serve", "resnet20-cifar10", "--token-file", tmp_path / "none")
    assert_sentence(answer, "cannot read .*none")


def test_a_port_that_is_taken_and_a_network_that_there_is_not(resnetlab, assert_sentence):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_sentence(
            resnetlab("serve", "resnet20-cifar10", "--port", port), "give another --port"
        )
    assert_sentence(resnetlab("serve", "no-such-network", "--port", 0), "no-such-network")


def test_without_its_libraries_it_says_what_to_install(resnetlab, assert_sentence, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    answer = resnetlab("serve", "resnet20-cifar10")
    assert_sentence(answer, r"pip install 'resnetlab\[serve\]'")
