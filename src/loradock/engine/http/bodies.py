"""Request bodies: read whole, large ones one after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.requests import Request

from loradock.types.errors import BadRequest, NestedTooDeeply, TooLarge
from loradock.types.nesting import check_nesting

MAX_BODY = 16 * 2**20
_LARGE = 1 << 20
_MOST_PARTS = 250_000
"""Arrays, objects and members of objects in one body. Of millions of them Python makes gigabytes, and holds up
everybody while it does. As many in a prompt's own text make more tokens than any context holds."""


class Bodies:
    """However many large bodies come at once, one is in memory; the others wait in the senders' sockets."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(1)

    @asynccontextmanager
    async def reading(self, request: Request) -> AsyncIterator[bytes]:
        """The body, inside the block. Raises TooLarge, and ClientDisconnect when it is not whole."""
        if int(request.headers.get("content-length", MAX_BODY)) <= _LARGE:
            yield await read_body(request)
            return
        async with self._large:
            yield await read_body(request)


async def read_body(request: Request) -> bytes:
    """Raises TooLarge, and ClientDisconnect when it is not whole."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise TooLarge(f"the request body is larger than {MAX_BODY >> 20} MiB")
    return b"".join(parts)


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Raises BadRequest."""
    if sum(map(body.count, (b"[", b"{", b'":'))) > _MOST_PARTS:
        raise BadRequest(f"the request body has more than {_MOST_PARTS} arrays, objects and members: send fewer")
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the request body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise NestedTooDeeply from error
    if not isinstance(content, dict):
        raise BadRequest("the request body must be a JSON object")
    check_nesting(body, content)
    return content
