"""Trainings on one's own images: their split is kept, found again, and watched."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from resnetlab.data.catalogue import CATALOGUE
from resnetlab.data.manifest import read_manifest
from resnetlab.data.sources import read_split
from resnetlab.errors import UserError
from resnetlab.evaluation.evaluate import dataset_of, evaluate
from resnetlab.plots.images import visualize
from resnetlab.runs import Run
from resnetlab.training.job import resume
from resnetlab.weights.checkpoint import load_checkpoint


@pytest.fixture
def photos(tmp_path, samples, empty_cache):
    """120 images of CIFAR-10, a folder for each class."""
    source = CATALOGUE["cifar10-sample"]
    images, labels = read_split(source.source, "train", samples / "cifar10-sample")
    for index in range(120):
        folder = tmp_path / "photos" / source.classes[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index]).save(folder / f"{index:03}.png")
    return tmp_path / "photos"


def first(folder):
    return min(folder.iterdir())


def test_the_split_is_kept_and_used(photos, tiny, tmp_path):
    training = tiny.train("run", dataset=str(photos), data_dir=None, val_size=20, batch_size=32)
    run = Run(training.run)
    lines = read_manifest(run.split_file)
    assert [sum(line.split == part for line in lines.values()) for part in range(3)] == [88, 20, 12]
    assert training.test.n == 12
    saved = json.loads((run.path / "test.json").read_text())
    again = evaluate(run.path)
    assert (again.top1, again.n) == (saved["top1"], 12)

    # What is added later is judged by nobody, as it was not drawn for that.
    shutil.copy(first(photos / "cat"), photos / "cat" / "new.png")
    assert evaluate(run.path).top1 == saved["top1"]
    assert evaluate(run.path, split="val").n == 20

    # The same images elsewhere are known by their paths and sizes, others are all for testing.
    moved = shutil.copytree(photos, tmp_path / "elsewhere")
    assert evaluate(run.path, dataset=str(moved)).top1 == saved["top1"]
    for image in moved.rglob("*.png"):
        image.rename(image.with_name(f"other-{image.name}"))
    shutil.rmtree(moved / "dog")  # a class that is missing shifts nothing
    other = evaluate(run.path, dataset=str(moved))
    assert other.n == sum(1 for _ in moved.rglob("*.png"))
    assert other.classes == load_checkpoint(run.path).classes
    picture = visualize(run.path, n=4, out=tmp_path / "some.png")
    assert Path(picture).is_file()

    # Alone, a network does not say which images it was trained on.
    shutil.copy(run.best_file, tmp_path / "alone.pt")
    with pytest.raises(UserError, match=r"unknown: there is no split.csv beside it.*`split_file`"):
        evaluate(tmp_path / "alone.pt")
    read = evaluate(tmp_path / "alone.pt", split_file=run.split_file)
    assert read.top1 == saved["top1"]


def test_resuming_uses_the_kept_split_bit_for_bit(photos, tiny):
    options = {"dataset": str(photos), "data_dir": None, "val_size": 20, "batch_size": 32}
    whole = tiny.train("whole", **options).run
    stopped = tiny.interrupted("stopped", **options)
    resume(stopped)
    assert tiny.contents(stopped) == tiny.contents(whole)


def test_a_folder_that_has_changed_is_refused_with_the_difference(photos, tiny):
    options = {"dataset": str(photos), "data_dir": None, "val_size": 20, "batch_size": 32}
    stopped = tiny.interrupted("stopped", **options)
    (photos / "cat" / "new.png").write_bytes(first(photos / "dog").read_bytes())
    gone = first(photos / "ship")
    kept = gone.read_bytes()
    gone.unlink()
    told = rf"has changed since .*: 1 added \(cat/new.png\), 1 removed \(ship/{gone.name}\); put it"
    with pytest.raises(UserError, match=told):
        resume(stopped)
    gone.write_bytes(kept)
    with pytest.raises(UserError, match=r"1 added \(cat/new.png\); .* resume .* --accept-changes"):
        resume(stopped)
    resume(stopped, accept_changes=True)  # with the images that it was begun with
    assert "cat/new.png" not in read_manifest(Run(stopped).split_file)


def test_what_is_skipped_is_listed(photos, tiny):
    (photos / "cat" / "bad.png").write_bytes(b"none")
    options = {"dataset": str(photos), "data_dir": None, "val_size": 20, "batch_size": 32}
    with pytest.raises(UserError, match=r"1 of 121 images cannot be read .*`on_bad_image` skip"):
        tiny.train("run", **options)
    run = Run(tiny.train("run", on_bad_image="skip", epochs=1, warmup_epochs=0, **options).run)
    assert run.skipped_file.read_text().splitlines() == [
        "path\treason",
        "cat/bad.png\tnot an image, or of an unknown format",
    ]
    assert "cat/bad.png" not in read_manifest(run.split_file)
    assert resume(run.path, epochs=2).test.n == 12


def test_a_split_of_ones_own(photos, tiny, tmp_path):
    rows = []
    for number, image in enumerate(sorted(photos.rglob("*.png"))):
        split = ("train", "train", "val", "test")[number % 4]
        rows.append(f"{image.relative_to(photos)},{split}")
    own = tmp_path / "own.csv"
    own.write_text("path,split\n" + "\n".join(rows) + "\n")
    options = {"dataset": str(photos), "data_dir": None, "split_file": str(own), "batch_size": 32}
    run = tiny.train("run", **options, epochs=1, warmup_epochs=0)
    assert run.test.n == 30
    own.unlink()  # the run has its own
    assert len(dataset_of(load_checkpoint(run.run), "val")) == 30
