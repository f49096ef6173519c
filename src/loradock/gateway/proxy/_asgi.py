"""The few ASGI types and answers the proxy needs."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from loradock.types.errors import LoradockError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client closed its connection before it had sent its request."""


async def answer(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def answer_error(send: Send, error: LoradockError, headers: Headers) -> None:
    extra = [(b"content-type", b"application/json")]
    extra += [(name.encode(), value.encode()) for name, value in error.headers().items()]
    await answer(send, error.status, [*headers, *extra], msgspec.json.encode(error.body()))
