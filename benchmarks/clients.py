"""Clients that ask a server without pause over connections that they keep, and what they see."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Seen:
    """What all clients saw."""

    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    """seconds from a request's first byte to its answer's last, of answers with status 200"""
    failures: list[str] = field(default_factory=list)
    """connections that broke"""

    @property
    def rate(self) -> float:
        return self.statuses.get(200, 0) / self.seconds

    def quantile(self, percent: int) -> float:
        """Milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100)[percent - 1]

    def __str__(self) -> str:
        others = {status: n for status, n in self.statuses.items() if status != 200}
        p50, p95, p99 = (self.quantile(percent) for percent in (50, 95, 99))
        return (
            f"{self.statuses.get(200, 0):,} answers, {self.rate:,.1f} images/s, "
            f"p50 {p50:,.0f} ms, p95 {p95:,.0f} ms, p99 {p99:,.0f} ms, "
            f"other answers {others or 'none'}, broken connections {len(self.failures)}"
        )


def form(image: bytes, path: str = "/predict") -> bytes:
    """A request with one image file, as a browser sends it."""
    body = (
        b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n'
        b"content-type: image/jpeg\r\n\r\n" + image + b"\r\n--b--\r\n"
    )
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        "content-type: multipart/form-data; boundary=b\r\n\r\n"
    )
    return head.encode() + body


def ask(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Seen:
    """Every connection sends the next request when it has its answer."""
    seen = Seen()
    source = itertools.cycle(requests)
    asyncio.run(_ask(port, source, connections, seconds, seen))
    return seen


async def _ask(port, source, connections: int, seconds: float, seen: Seen) -> None:
    began = time.perf_counter()
    end = began + seconds
    await asyncio.gather(*(_client(port, source, end, seen) for _ in range(connections)))
    seen.seconds = time.perf_counter() - began


async def _client(port, source, end: float, seen: Seen) -> None:
    while time.perf_counter() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            seen.failures.append(repr(error))
            await asyncio.sleep(0.1)
            continue
        try:
            while time.perf_counter() < end:
                sent = time.perf_counter()
                writer.write(next(source))
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                status = int(head[9:12])
                seen.statuses[status] = seen.statuses.get(status, 0) + 1
                if status == 200:
                    seen.latencies.append(time.perf_counter() - sent)
                if b"connection: close" in head.lower():
                    break
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.failures.append(repr(error))
        finally:
            writer.close()
