"""The few ASGI types and answers the proxy needs."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from loradock.types.errors import LoradockError, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client closed its connection before it had sent its request."""


def header(scope: Scope, name: bytes, default: str = "") -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return default


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Raises TooLarge, as early as the Content-Length allows, and ClientGone."""
    if int(header(scope, b"content-length", "0")) > limit:
        raise _too_large(limit)
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += bytes(message.get("body", b""))
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return body


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is larger than this server accepts ({limit >> 20} MiB). Send less text at once.")


async def answer(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def answer_error(send: Send, error: LoradockError, headers: Headers) -> None:
    extra = [(b"content-type", b"application/json")]
    if error.status == 503:
        extra.append((b"retry-after", b"1"))
    await answer(send, error.status, [*headers, *extra], msgspec.json.encode(error.body()))
