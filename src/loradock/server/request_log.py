"""A line in the log for every request, for operators who want one (`serve --log-requests`)."""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from loradock.gateway.proxy.request import ASKED_MODEL
from loradock.store.actor import ACTOR, SYSTEM

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_log = logging.getLogger("loradock.requests")


class RequestLog:
    """ASGI. Texts, keys and query strings are never logged."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        _log.setLevel(logging.INFO)  # who asks for it gets it, also with --log-level warning

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, told = time.perf_counter(), _Told()

        async def noting(message: MutableMapping[str, Any]) -> None:
            told.note(message, began)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            _log.info("%s", _line(scope, told, 1000 * (time.perf_counter() - began)))
        return None


class _Told:
    """The answer that the client was sent."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.request_id = ""
        self.first_ms = 0.0
        self.size = 0

    def note(self, message: MutableMapping[str, Any], began: float) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.first_ms = 1000 * (time.perf_counter() - began)
            self.request_id = dict(message["headers"]).get(b"x-request-id", b"").decode("latin-1")
        self.size += len(message.get("body", b""))


def _line(scope: Scope, told: _Told, milliseconds: float) -> str:
    # As it came: percent-encoded, so that no path can begin a line of its own.
    path = (scope.get("raw_path") or b"").decode("latin-1").partition("?")[0]
    status = "left" if told.status is None else told.status
    line = f"{scope['method']} {path} {status} in {milliseconds:.0f} ms"
    if told.status is not None and milliseconds - told.first_ms > 1:
        line += f" (first byte {told.first_ms:.0f} ms)"
    line += f", {told.size} B"
    if (model := ASKED_MODEL.get()) is not None:
        line += f", model {model[:200]!a}"
    if (actor := ACTOR.get()) != SYSTEM:
        line += f", key {actor!r}"
    client = (scope.get("client") or ("-",))[0]
    return f"{line}, from {client}, request {told.request_id or '-'}"
