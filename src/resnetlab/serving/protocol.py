"""uvicorn's HTTP/1.1, more patient when it stops, and less with clients that never say what."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from resnetlab.serving.guard import Guard

_SENTENCE = b"the request's headers came too slowly."
_TOO_SLOW = b"\r\n".join(
    (
        b"HTTP/1.1 408 Request Timeout",
        b"connection: close",
        b"content-type: text/plain",
        b"content-length: %d" % len(_SENTENCE),
        b"",
        _SENTENCE,
    )
)
_LAST_CALL_SECONDS = 0.5


class Protocol(H11Protocol):
    """Closes connections whose request does not begin, or whose headers don't end.

    When the server stops, it answers the requests that are on their way as well as those that have
    come, and tells clients that the connection ends.
    """

    app: Guard
    _timer: asyncio.TimerHandle | None = None
    _leaving = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._leaving = True
        if self._answering():
            self._say_goodbye()
        else:
            self.loop.call_later(_LAST_CALL_SECONDS, self._leave)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """Run the clock while headers are awaited; what trickles in does not set it back."""
        if self._answering():
            self._stop()
            if self._leaving:
                self._say_goodbye()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.app.settings.header_seconds, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _say_goodbye(self) -> None:
        self.cycle.keep_alive = False
        if CLOSE_HEADER not in self.cycle.default_headers:
            self.cycle.default_headers = [*self.cycle.default_headers, CLOSE_HEADER]

    def _leave(self) -> None:
        if not self._answering() and not self.transport.is_closing():
            super().shutdown()
