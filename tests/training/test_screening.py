import shutil

import pytest
import torch
from PIL import Image

from resnetlab.data.catalogue import load_dataset
from resnetlab.errors import UserError
from resnetlab.training.screening import screen


@pytest.fixture
def photos(samples, tmp_path):
    """Twelve real images of each of two classes, as files."""
    data = load_dataset("cifar10-sample", "train+val", data_dir=samples)
    for label in (1, 2):
        folder = tmp_path / "photos" / data.classes[label]
        folder.mkdir(parents=True)
        indices = torch.nonzero(data.labels == label).flatten()[:12]
        for index, image in zip(indices, data.batch(indices)[0], strict=True):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{int(index)}.png")
    return tmp_path / "photos"


def first(folder):
    return min(folder.iterdir())


def found(photos, on_findings="error", **settings):
    lines = []
    screen(photos, settings, on_findings, lines.append)
    return lines


def test_what_is_as_it_should_be_passes_in_silence(photos):
    assert found(photos) == []


def test_each_thing_that_would_mislead_is_named_with_its_remedy(photos):
    shutil.copy(first(photos / "bird"), photos / "automobile" / "copy.png")
    first(photos / "automobile").write_bytes(b"no image")
    with pytest.raises(UserError) as refusal:
        found(photos)
    message = str(refusal.value)
    assert "1 image cannot be read" in message
    assert "1 duplicate pair with two labels" in message
    assert "correct the label of one" in message
    assert "`on_findings` warn" in message
    assert [line.split(":")[0] for line in found(photos, "warn")] == ["misleads", "misleads"]


def test_images_that_will_be_skipped_do_not_mislead(photos):
    first(photos / "bird").write_bytes(b"")
    assert found(photos, on_bad_image="skip") == []


def test_what_is_only_odd_is_reported(photos):
    path = first(photos / "bird")
    Image.open(path).convert("L").save(path)
    (line,) = found(photos)
    assert line.startswith("warning: 1 image of 24 without colour")


def test_known_data_sets_are_not_looked_at():
    assert found("cifar10") == []  # without reading it: here is no such file
