"""What stands before the application: who may ask, how much may be sent, and how long it may take.

Pure ASGI, so that a body is refused while it comes, not after it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from resnetlab.serving.metrics import Metrics
from resnetlab.serving.refused import Refused
from resnetlab.serving.settings import Settings

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]

PUBLIC = ("/", "/docs", "/openapi.json", "/health", "/ready")
"""Paths that need no token, beside those below /static/."""

_LOG = logging.getLogger("uvicorn.error")

_HEADERS = {
    # Nothing is loaded from elsewhere, nothing is sent elsewhere, nobody frames the page.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(), microphone=()",
}
_LINGER_SECONDS = 3.0
"""How long the rest of a refused body is read and dropped, so that its client sees the answer."""


class Guard:
    """An ASGI application around another.

    Args:
        app: What answers.
        settings: Limits of bodies.
        metrics: Counts what was answered.
        hosts: Names that a request's Host may have (against DNS rebinding); None: any.
        token: What a request for a path that is not ``PUBLIC`` must carry; None: nothing.
        paths: Names of requests in the metrics; others are counted as "other".
    """

    def __init__(
        self,
        app: Any,
        *,
        settings: Settings,
        metrics: Metrics,
        hosts: frozenset[str] | None,
        token: str | None,
        paths: Iterable[str],
    ) -> None:
        self._app = app
        self.settings = settings
        self._metrics = metrics
        self._hosts = hosts
        self._token = None if token is None else token.encode()
        self._paths = frozenset(paths)
        self._bytes_in_flight = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Exchange(self, scope, receive, send).run()
        else:
            await self._app(scope, receive, send)

    def check(self, scope: dict[str, Any]) -> None:
        """Raise Refused for a request that may not be made, whatever its body."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)
        name = host[0] if len(host) == 1 or host[1].isdecimal() else ":".join(host)
        if self._hosts is not None and name.lower() not in self._hosts:
            raise Refused(421, "this host is not served here; ask for localhost.")
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and (
            scope["method"] != "GET" or headers.get(b"sec-fetch-mode") != b"navigate"
        ):
            raise Refused(403, "pages of other sites may not ask.")
        if self._token is not None and not is_public(scope["path"]):
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                refused = Refused(401, "a token is needed: Authorization: Bearer TOKEN.")
                refused.headers["www-authenticate"] = "Bearer"
                raise refused
        length = headers.get(b"content-length")
        if length is not None and int(length) > self.settings.max_bytes:
            raise self.too_large()

    def too_large(self) -> Refused:
        return Refused(413, f"a request has at most {self.settings.max_megabytes} MB; send less.")


def is_public(path: str) -> bool:
    """Whether a path needs no token."""
    return path in PUBLIC or path.startswith("/static/")


class _Exchange:
    """One request and its response, as they pass the guard."""

    def __init__(self, guard: Guard, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received = 0
        self._body_done = False
        self._status = 0
        self._deadline = 0.0

    async def run(self) -> None:
        began = time.perf_counter()
        guard = self._guard
        self._deadline = asyncio.get_running_loop().time() + guard.settings.body_seconds
        try:
            try:
                guard.check(self._scope)
                await guard._app(self._scope, self._next_part, self._pass_on)
            except Refused as refused:
                await self._refuse(refused)
            except Exception:
                if not self._status:
                    raise
                # The client has its answer; raised further, it would cost the connection too.
                _LOG.exception("%s %s failed", self._scope["method"], self._scope["path"])
            if self._status and not self._body_done:
                await self._linger()
        finally:
            guard._bytes_in_flight -= self._received
            path = self._scope["path"]
            guard._metrics.request(
                path if path in guard._paths else "other",
                self._status,
                time.perf_counter() - began,
            )

    async def _next_part(self) -> dict[str, Any]:
        """The next part of the body; Refused if it is too much or too late."""
        if self._body_done:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            seconds = self._guard.settings.body_seconds
            raise Refused(408, f"the request's body took more than {seconds:g} s.") from None
        if message["type"] != "http.request":
            self._body_done = True
            raise Refused(400, "the client went away before its request was whole.")
        self._received += len(message["body"])
        self._guard._bytes_in_flight += len(message["body"])
        if self._received > self._guard.settings.max_bytes:
            raise self._guard.too_large()
        if self._guard._bytes_in_flight > 8 * self._guard.settings.max_bytes:
            raise Refused(429, "too much is being sent at once; try again.", retry_after=1)
        self._body_done = not message["more_body"]
        return message

    async def _pass_on(self, message: dict[str, Any]) -> None:
        """Send a part of the response; the last one only when the whole request has come."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            if not self._has_whole_body():
                headers.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        elif not self._body_done and not message.get("more_body"):
            message = {**message, "more_body": True}
        await self._send(message)

    def _has_whole_body(self) -> bool:
        """Whether the request is over; one that has no body is, though nobody asked for it."""
        headers = dict(self._scope["headers"])
        if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
            self._body_done = True
        return self._body_done

    async def _refuse(self, refused: Refused) -> None:
        if self._status:
            raise RuntimeError("refused after the response had begun") from refused
        body = json.dumps({"error": refused.sentence}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        headers |= refused.headers
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": refused.status, "headers": encoded}
        await self._pass_on(start)
        await self._pass_on({"type": "http.response.body", "body": body, "more_body": False})

    async def _linger(self) -> None:
        """Drop the rest of the body for a while: closing at once would lose the answer too."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while (await self._receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
