"""Processes that work together notice when one of them ends or is lost, and can name it.

Without this a collective operation waits for half an hour for a machine that is gone, and then says
which socket failed. Each process holds a connection to that of rank 0 and sends a sign of life
every few seconds; a connection that closes is a process that ended, silence a machine that is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from resnetlab.errors import UserError, reason_of

BEAT = 3.0
"""Seconds between two signs of life."""
LOST_AFTER = 90.0
"""Seconds of silence after which a process is lost. TCP needs up to half a minute after a cut of
the same length to get through again."""
GRACE = 10.0
"""Seconds in which the others, after one has ended with an error, end with their own."""
_BROKEN = ("peer", "connection", "nccl", "socket", "broken pipe", "timed out")
"""Parts of what torch says when a collective operation has lost a process."""

Machine = tuple[str, str]
"""The name of a host, and the number of the agent there (torchrun) that started a process."""


class Liveness:
    """This process's connections: of rank 0 to all others, of these to rank 0."""

    def __init__(
        self, rank: int, machines: Sequence[Machine], connections: dict[int, socket.socket]
    ) -> None:
        self.advice = ""
        """what a person can do when a process is lost"""
        self._rank, self._machines, self._connections = rank, machines, connections
        self._heard = dict.fromkeys(connections, time.monotonic())
        self._rests = dict.fromkeys(connections, b"")
        self._sentences: dict[int, str] = {}
        self._verdict: tuple[float, str, bool] | None = None
        self._closing = threading.Event()
        self._news = threading.Condition()
        self._selector = selectors.DefaultSelector()
        for other, connection in connections.items():
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, other)
        self._thread = threading.Thread(target=self._watch, name="liveness", daemon=True)
        self._thread.start()

    def name(self, rank: int) -> str:
        return f"process {rank} of {len(self._machines)} on {self._machines[rank][0]}"

    def beside(self, rank: int) -> bool:
        """Whether a process is on this machine, and prints where this one does."""
        return self._machines[rank] == self._machines[self._rank]

    def close(self, sentence: str | None) -> None:
        """Tell the others that this process ends, with an error or well, and stop watching."""
        with self._news:
            self._closing.set()
            self._tell({"ended": sentence})
        self._thread.join(2 * BEAT)

    def is_told_elsewhere(self, sentence: str) -> bool:
        """Whether rank 0 fails alike and is on this machine, so that it says the sentence."""
        self._tell({"ended": sentence})
        with self._news:
            self._news.wait_for(lambda: 0 in self._sentences, GRACE)
        return self._sentences.get(0) == sentence and self.beside(0)

    def wait(self) -> None:
        """Until the thread has ended this process, if it finds that another one is lost."""
        self._thread.join(GRACE + 2 * BEAT)

    def _tell(self, message: dict[str, Any] | None) -> None:
        line = (json.dumps(message) if message else "").encode() + b"\n"
        for connection in list(self._connections.values()):
            # One that is gone is noticed where it is read.
            with contextlib.suppress(OSError):
                connection.sendall(line)

    def _watch(self) -> None:
        beaten = 0.0
        while not self._closing.is_set():
            for key, _ in self._selector.select(BEAT / 3):
                self._read(key.data)
            now = time.monotonic()
            if now - beaten >= BEAT:
                self._tell(None)
                beaten = now
            for rank, heard in self._heard.items():
                if now - heard > LOST_AFTER:
                    silence = f"has not been heard of for {LOST_AFTER:.0f} seconds"
                    self._judge(f"{self.name(rank)} {silence}; its machine or the network failed")
            if self._verdict and now >= self._verdict[0]:
                with self._news:
                    if not self._closing.is_set():
                        self._end(*self._verdict[1:])

    def _read(self, rank: int) -> None:
        try:
            data = self._connections[rank].recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard[rank] = time.monotonic()
        *lines, self._rests[rank] = (self._rests[rank] + data).split(b"\n")
        for line in filter(None, lines):
            message = json.loads(line)
            if "lost" in message:
                self._judge(message["lost"])
            elif message["ended"] is None:
                self._forget(rank)
            else:
                with self._news:
                    self._sentences[rank] = message["ended"]
                    self._news.notify_all()
                sentence = f"{self.name(rank)} ended: {message['ended']}"
                self._judge(sentence, GRACE, said=self.beside(rank))  # there it is printed
        if not data and rank in self._heard:
            self._forget(rank)
            if rank not in self._sentences:
                self._judge(f"{self.name(rank)} is gone: it was killed, or its machine failed", 0.5)

    def _forget(self, rank: int) -> None:
        if rank in self._heard:
            del self._heard[rank]
            self._selector.unregister(self._connections[rank])

    def _judge(self, sentence: str, grace: float = 0.0, *, said: bool = False) -> None:
        if self._verdict is None:
            self._verdict = time.monotonic() + grace, sentence, said

    def _end(self, sentence: str, said: bool) -> None:
        """End this process from its thread: the main one may wait for ever in a collective."""
        self._tell({"lost": sentence})
        with contextlib.suppress(OSError, ValueError):
            if not said:
                own = f"resnetlab, {self.name(self._rank)}"
                print(f"{own}: {sentence}. {self.advice}".rstrip(), file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(1)


@contextmanager
def watched(rank: int, machines: Sequence[Machine]) -> Iterator[Liveness]:
    """Watch all processes while the body runs, and end this one when another is lost.

    A UserError is marked with who says it.
    """
    liveness = Liveness(rank, machines, _connect(rank, len(machines)))
    try:
        yield liveness
    except UserError as error:
        error.where = liveness.name(rank) if rank else ""
        if rank == 0:
            error.told_elsewhere = False
        elif error.told_elsewhere is None:
            error.told_elsewhere = liveness.is_told_elsewhere(str(error))
        liveness.close(str(error))
        raise
    except KeyboardInterrupt:
        liveness.close(None)
        raise
    except BaseException as error:
        if any(words in str(error).lower() for words in _BROKEN):
            liveness.wait()
        liveness.close(f"{type(error).__name__}: {reason_of(error)}")
        raise
    liveness.close(None)


def _connect(rank: int, size: int) -> dict[int, socket.socket]:
    """A connection between rank 0 and each other rank, by rank."""
    box: list[Any] = [None]
    listener = None
    if rank == 0:
        listener = socket.create_server(("", 0), backlog=size)
        box = [(listener.getsockname()[1], secrets.token_hex(16))]
    dist.broadcast_object_list(box, src=0)
    port, token = box[0]
    if listener is None:
        connection = socket.create_connection((os.environ["MASTER_ADDR"], port), LOST_AFTER)
        connection.sendall(f"{token} {rank}\n".encode())
        return {0: connection}
    connections: dict[int, socket.socket] = {}
    listener.settimeout(LOST_AFTER)
    with listener:
        while len(connections) < size - 1:
            connection, _ = listener.accept()
            connection.settimeout(LOST_AFTER)
            stated, _, other = connection.makefile().readline().strip().partition(" ")
            if secrets.compare_digest(stated, token):
                connections[int(other)] = connection
            else:
                connection.close()
    return connections
