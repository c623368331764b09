"""Files from an address: kept once, checked against the digest in their name."""

import hashlib

import pytest
import torch

from resnetlab.errors import UserError
from resnetlab.weights import hub


@pytest.fixture
def online(monkeypatch, tmp_path):
    """What every address delivers, and the addresses that were asked."""
    asked = []

    def fetch(urls, folder, **_):
        asked.extend(urls)
        (folder / urls[0].rsplit("/", 1)[-1]).write_bytes(b"weights")

    monkeypatch.setattr(hub, "fetch_files", fetch)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return asked


def test_a_file_is_fetched_once(online):
    path = hub.download("https://example.org/a/net.pth")
    assert path.read_bytes() == b"weights"
    assert hub.download("https://example.org/a/net.pth") == path
    assert hub.download("https://example.org/b/net.pth") != path
    assert len(online) == 2


def test_the_digest_in_a_name_is_checked(online, tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    assert hub.download(f"https://example.org/net-{digest}.pth").name == f"net-{digest}.pth"
    with pytest.raises(UserError, match=r"cannot be fetched \(its SHA-256 is not the one"):
        hub.download("https://example.org/net-0123456789.pth")
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
