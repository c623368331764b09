"""What /metrics tells, for one process or for all of them."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where several processes share their numbers; read by prometheus_client when it is imported."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts of one process, printed with those of its siblings."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "resnetlab_requests", "Requests answered.", ("path", "status"), registry=registry
        )
        self._latency = Histogram(
            "resnetlab_request_seconds",
            "From a request's headers to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Counter("resnetlab_images", "Images.", ("result",), registry=registry)
        self.queued = Gauge(
            "resnetlab_queue_images",
            "Images that wait or are being computed.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._batches = Histogram(
            "resnetlab_batch_images",
            "Images in a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self._compute = Histogram(
            "resnetlab_batch_seconds",
            "Time that the network takes for a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        if FOLDER not in os.environ:
            ProcessCollector(registry=registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(path, str(status)).inc()
        self._latency.labels(path).observe(seconds)

    def image(self, result: str) -> None:
        """Count an image: predicted, unreadable or not-finite."""
        self._images.labels(result).inc()

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch that was computed."""
        self._batches.observe(images)
        self._compute.observe(seconds)

    def text(self) -> bytes:
        """All counts in Prometheus' text format."""
        folder = os.environ.get(FOLDER)
        if folder is None:
            return generate_latest(self._registry)
        _forget_the_dead(Path(folder))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, folder)
        return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """A process that was killed has no images waiting."""
    for file in folder.glob("gauge_live*_*.db"):
        try:
            os.kill(int(file.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
