"""Any number of images into one file: parts, kills, several processes."""

import csv
import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

from resnetlab.data.catalogue import load_dataset
from resnetlab.inference import job
from resnetlab.inference.job import predict_to_file
from resnetlab.inference.predictor import Predictor, predict

NETWORK = "resnet20-cifar10"


@pytest.fixture
def folder(samples, tmp_path):
    """25 images in two folders, and one that cannot be read."""
    data = load_dataset("cifar10-sample", "test", data_dir=samples)
    for i in range(25):
        path = tmp_path / "images" / f"{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(
            data.batch(__import__("torch").tensor([i]))[0][0].permute(1, 2, 0).numpy()
        ).save(path)
    (tmp_path / "images" / "1" / "broken.png").write_text("no image")
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(job, "PART", 4)


def read(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(folder, out, **options):
    said = []
    options = {"topk": 2, "execution": "plain", "report": said.append} | options
    return predict_to_file(NETWORK, [folder], out, **options), said


def test_the_rows_are_those_of_predict(folder, tmp_path):
    wanted = predict(NETWORK, folder, topk=2, execution="plain")
    done, _ = run(folder, tmp_path / "a.csv")
    assert (done.images, done.failed, done.complete) == (26, 1, True)
    rows = read(done.path)
    assert [row["image"] for row in rows] == [p.path for p in wanted for _ in (p.top or [None])]
    found = [(row["class"], float(row["probability"])) for row in rows if not row["error"]]
    assert found == [(name, pytest.approx(p, abs=1e-3)) for x in wanted for name, p in x.top]
    (broken,) = (row for row in rows if row["error"])
    assert broken["rank"] == ""
    assert "not an image" in broken["error"]
    run(folder, tmp_path / "a.jsonl")
    lines = read(tmp_path / "a.jsonl")
    assert [line["image"] for line in lines] == [p.path for p in wanted]
    assert sum(line["error"] is not None for line in lines) == 1
    assert not (tmp_path / "a.csv.parts").exists()


def test_parquet_has_the_rows_of_csv(folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run(folder, tmp_path / "a.csv")
    run(folder, tmp_path / "a.parquet")
    found = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    rows = read(tmp_path / "a.csv")
    assert [row["image"] for row in found] == [row["image"] for row in rows]
    assert [str(row["rank"] or "") for row in found] == [row["rank"] for row in rows]


def test_what_was_killed_is_resumed_and_no_image_comes_twice(folder, tmp_path, monkeypatch):
    logits, calls = Predictor.logits, []

    def stop(self, images):
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return logits(self, images)

    monkeypatch.setattr(Predictor, "logits", stop)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "a.jsonl")
    monkeypatch.setattr(Predictor, "logits", logits)
    assert not (tmp_path / "a.jsonl").exists()
    with pytest.raises(ValueError, match=r"a.jsonl.parts was begun with another topk; go on"):
        run(folder, tmp_path / "a.jsonl", topk=3)
    (folder / "late.png").write_bytes((folder / "0" / "00.png").read_bytes())  # not listed
    done, said = run(folder, tmp_path / "a.jsonl")
    assert said == [f"resuming {tmp_path}/a.jsonl: 12 of 26 images are done"]
    names = [row["image"] for row in read(done.path)]
    assert len(names) == len({*names}) == 26
    with pytest.raises(ValueError, match=r"`out` .*a.jsonl is there already"):
        run(folder, tmp_path / "a.jsonl")


def test_kill_9_and_several_processes(folder, tmp_path):
    """Three started at once, one of them killed: the others do its part."""
    code = f"""
import sys
from resnetlab.inference import job
from resnetlab.inference.predictor import Predictor
job.PART = 2
logits = Predictor.logits
def slow(self, images):
    import time
    print("began", flush=True)
    time.sleep(0.3)
    return logits(self, images)
Predictor.logits = slow
job.predict_to_file({NETWORK!r}, [sys.argv[1]], sys.argv[2], topk=1, execution="plain")
"""
    words = [sys.executable, "-c", code, str(folder), str(tmp_path / "a.csv")]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert processes[0].stdout.readline() == "began\n"
    processes[0].send_signal(signal.SIGKILL)
    processes[0].communicate()
    processes[1].communicate(timeout=120)
    assert processes[1].returncode == 0
    names = [row["image"] for row in read(tmp_path / "a.csv")]
    assert len(names) == len({*names}) == 26
    assert not (tmp_path / "a.csv.parts").exists()


def test_torchrun_shares_a_folder(folder, tmp_path):
    words = ["torchrun", "--nproc-per-node", "2", "-m", "resnetlab", "predict", NETWORK, folder]
    done = subprocess.run(
        [*words, "--out", tmp_path / "a.csv", "--topk", "1"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
    )
    assert "26 images, 1 of them could not be read" in done.stdout, done.stderr
    names = [row["image"] for row in read(tmp_path / "a.csv")]
    assert len(names) == len({*names}) == 26


def test_wrong_words(folder, tmp_path):
    with pytest.raises(ValueError, match=r"`out` .*a.txt must end in .csv, .jsonl or .parquet"):
        run(folder, tmp_path / "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there are no images in"):
        run(tmp_path / "empty", tmp_path / "a.csv")
    assert not (tmp_path / "a.csv.parts").exists()


def test_a_million_names_are_listed_folder_by_folder(tmp_path):
    """Lazily: the first image comes before the last folder is looked into."""
    from resnetlab.data.find import walk_images

    for name in ("b/2.png", "a/1.JPG", "a/.hidden.png", "a/x.txt", "0.png", "a/c/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = walk_images([tmp_path])
    assert next(found) == tmp_path / "0.png"
    (tmp_path / "b" / "later.png").touch()
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["a/1.JPG", "a/c/3.png", "b/2.png", "b/later.png"]
