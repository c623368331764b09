"""Images of all clients in common batches: first come, first served, within limits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from resnetlab.compute.machine import available_cores
from resnetlab.serving.engine import Answer, Engine, Picture
from resnetlab.serving.metrics import Metrics
from resnetlab.serving.refused import Refused


@dataclass(frozen=True)
class _Waiting:
    picture: Picture
    answer: asyncio.Future[Answer]
    since: float


class Batcher:
    """Decodes in threads, computes in one, and never holds more than ``capacity`` images.

    A batch begins when the one before it is done. It waits, at most ``wait`` seconds after its
    first image came, only for images that are known to be on their way; one client alone never
    waits. An image whose client has given up is left out.
    """

    def __init__(self, engine: Engine, metrics: Metrics, *, capacity: int, wait: float) -> None:
        self._engine = engine
        self._metrics = metrics
        self._capacity = capacity
        self._wait = wait
        self._admitted = 0
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._seconds_an_image = 0.0
        self._decoders = ThreadPoolExecutor(available_cores(), "decoder")
        self._computer = ThreadPoolExecutor(1, "computer")
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())
        self._computing_since: float | None = None

    @contextmanager
    def admit(self, images: int, *, status: int = 429) -> Iterator[None]:
        """Room for so many images in the body; Refused (429, or ``status``) if there is none."""
        if self._admitted + images > self._capacity:
            seconds = math.ceil(self._admitted * self._seconds_an_image) or 1
            raise Refused(
                status,
                f"{self._admitted} images are waiting and there is no room for {images} more; "
                f"try again in {seconds} s.",
                retry_after=seconds,
            )
        self._admit(images)
        try:
            yield
        finally:
            self._admit(-images)

    async def answer(self, data: bytes, *, heat_map: bool) -> Answer:
        """The network's answer to one encoded image; UserError if it cannot be read."""
        picture = await self._loop.run_in_executor(
            self._decoders, lambda: self._engine.read(data, heat_map=heat_map)
        )
        waiting = _Waiting(picture, self._loop.create_future(), time.perf_counter())
        self._queue.put_nowait(waiting)
        return await waiting.answer

    def stuck(self, seconds: float) -> bool:
        """Whether one batch has taken longer than that, or batches are no longer computed."""
        since = self._computing_since
        return self._task.done() or (since is not None and time.perf_counter() - since > seconds)

    async def close(self) -> None:
        """Stop; for a time when nothing is admitted."""
        self._task.cancel()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._computer.shutdown(wait=False, cancel_futures=True)

    def _admit(self, images: int) -> None:
        self._admitted += images
        self._metrics.queued.set(self._admitted)

    async def _run(self) -> None:
        while True:
            batch = [each for each in await self._gather() if not each.answer.done()]
            if batch:
                await self._compute(batch)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        closes = batch[0].since + self._wait
        while len(batch) < self._engine.network.batch_size:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            left = closes - time.perf_counter()
            if len(batch) >= self._admitted or left <= 0:
                break
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), left))
            except TimeoutError:
                break
        return batch

    async def _compute(self, batch: list[_Waiting]) -> None:
        began = self._computing_since = time.perf_counter()
        try:
            pictures = [each.picture for each in batch]
            answers = await self._loop.run_in_executor(
                self._computer, self._engine.compute, pictures
            )
        except Exception as error:  # the requests of this batch fail, and the next ones do not
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        finally:
            self._computing_since = None
        seconds = time.perf_counter() - began
        self._seconds_an_image = seconds / len(batch)
        self._metrics.batch(len(batch), seconds)
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
