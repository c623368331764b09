"""What a backend reaches without a server: `python -m benchmarks.offline_rate NETWORK FOLDER ...`.

Prints images/s computed in full batches, and from files, decoded in threads ahead.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from resnetlab import Predictor
from resnetlab.inference.prepare import inference_batch_size


def main(network: str, folder: str, backend: str, seconds: str) -> None:
    predictor = Predictor(network, backend=backend)  # type: ignore[arg-type]
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    print(rate(computed(predictor, files), float(seconds)))
    print(rate(answered(predictor, files), float(seconds)))


def computed(predictor: Predictor, files: list[bytes]) -> Iterator[int]:
    """The images of each batch."""
    n = inference_batch_size(predictor.backend.preprocessing.size)
    batch = torch.stack(
        [predictor.read(file) for file in itertools.islice(itertools.cycle(files), n)]
    )
    while True:
        predictor.logits(batch)
        yield n


def answered(predictor: Predictor, files: list[bytes]) -> Iterator[int]:
    for _ in predictor.predict(itertools.cycle(files)):
        yield 1


def rate(steps: Iterator[int], seconds: float) -> float:
    """Images/s after the first ones."""
    list(itertools.islice(steps, 2))
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += next(steps)
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
