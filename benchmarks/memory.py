"""Memory over time: `python -m benchmarks.memory files` and `python -m benchmarks.memory shards`.

files: a small network is trained for three epochs on 100,000 PNG files, CIFAR-10's training images
twice. shards: the same on tar shards of photographs that are larger than the memory that the
process is allowed (RLIMIT_DATA, as of `ulimit -d`). Both with random crops, and with decoded images
kept on the disk. A table of the resident memory during the training is printed in the end.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.photographs import photograph
from resnetlab.console import progress
from resnetlab.data.catalogue import load_dataset
from resnetlab.training.job import train

SMALL = {"model": "resnet20", "model_overrides": {"depths": (1, 1, 1), "widths": (4, 8, 8)}}
ROWS = 12
"""Of the table."""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    arguments.add_argument("kind", choices=("files", "shards"))
    arguments.add_argument("--images", type=int, default=100_000, help="files")
    arguments.add_argument("--epochs", type=int, default=3)
    arguments.add_argument("--megabytes", type=int, default=2_000, help="of all shards")
    arguments.add_argument("--limit", type=int, default=1_500, help="megabytes that shards may use")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.kind == "files":
            dataset = write_files(Path(folder) / "files", options.images)
            changes: dict[str, Any] = {"image_size": 32, "batch_size": 128}
        else:
            dataset = write_shards(Path(folder) / "shards", options.megabytes)
            changes = {"image_size": 64, "batch_size": 32}
            resource.setrlimit(resource.RLIMIT_DATA, (options.limit * 2**20,) * 2)
        cache = str(Path(folder) / "cache")
        with watched() as seen:
            common = {
                "epochs": options.epochs,
                "execution": "plain",
                "resized_crop": 0.35,
                "cache": cache,
                **SMALL,
            }
            train("smoke", dataset=dataset, out=Path(folder) / "run", **common, **changes)
        print("| seconds | resident memory, MiB |\n| ---: | ---: |")
        for place in torch.linspace(0, len(seen) - 1, ROWS).long().tolist():
            print("| {:.0f} | {:.0f} |".format(*seen[place]))


def write_files(folder: Path, n: int) -> str:
    """PNG files of CIFAR-10's training images, each as often as it takes."""
    data = load_dataset("cifar10", "train+val")
    for name in data.classes:
        (folder / name).mkdir(parents=True)
    for number in progress(range(n), n, f"writing {n:,} files"):
        (image,), (label,) = data.batch(torch.tensor([number % len(data)]))
        path = folder / data.classes[label] / f"{number:06}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return str(folder)


def write_shards(folder: Path, megabytes: int) -> str:
    """WebDataset's tar shards of 200 MB each: photographs, and their classes in .cls files."""
    data = load_dataset("cifar10", "test")
    folder.mkdir()
    files: list[tuple[bytes, int]] = []
    for index in progress(range(40), 40, "making photographs"):
        (image,), (label,) = data.batch(torch.tensor([index]))
        file = io.BytesIO()
        photograph(image, 0, size=(2016, 1512), noise=4.5).save(file, "JPEG", quality=95)
        files.append((file.getvalue(), int(label)))
    number = 0
    for shard in range(megabytes // 200):
        with tarfile.open(folder / f"train-{shard:03}.tar", "w") as archive:
            while archive.offset < 200e6:
                data, label = files[number % len(files)]
                for suffix, content in (("jpg", data), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{number:06}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                number += 1
    return str(folder / f"train-{{000..{megabytes // 200 - 1:03}}}.tar")


@contextmanager
def watched() -> Iterator[list[tuple[float, float]]]:
    """Seconds since the beginning and resident MiB, twice a second while the body runs."""
    seen: list[tuple[float, float]] = []
    began, done = time.perf_counter(), threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            seen.append((time.perf_counter() - began, resident))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
