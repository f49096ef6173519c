"""HTTP/1.1 to the replicas: kept-alive connections, the bytes of an answer as they come, and nothing else.

A general HTTP client does more per request and per chunk than all the rest of the gateway together
(docs/lab/gateway.md).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import httptools

CONNECT_S = 5.0
_MAX_HEAD = 64 << 10
_MAX_WAITING = 256 << 10
"""Bytes of an answer that wait for a slow client before the replica is made to wait too."""


class Lost(Exception):
    """A replica's connection broke, or what it says is not HTTP."""


class Unreached(Lost):
    """A replica cannot be reached: it has not seen the request."""


class Connection(asyncio.Protocol):
    """A connection for one exchange after the other: `ask`, `head`, then `read` to the end, and `leave` at any
    point."""

    def __init__(self, idle: "list[Connection]") -> None:
        self._idle = idle
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._wake: asyncio.Future[None] | None = None
        self._lost: Lost | None = None
        self._complete = True
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.answered = False
        """Whether a byte of the answer has come."""
        self._headed = self._framed = self._keep = self._paused = False
        self._head_size = self._waiting = 0
        self._chunks: list[bytes] = []

    def ask(self, request: bytes) -> None:
        """Send all bytes of a request."""
        self._begin()
        self._complete = False
        self._transport.write(request)

    async def head(self) -> None:
        """Returns once `status` and `headers` (names in lower case) are known. Raises Lost."""
        while not self._headed:
            await self._more()

    def header(self, name: bytes) -> bytes:
        """b"" where there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    async def read(self) -> bytes:
        """Return what has come since the last call, at least a byte; b"" at the end. Raises Lost."""
        while not self._chunks:
            if self._complete:
                return b""
            await self._more()
        chunks, self._chunks, self._waiting = self._chunks, [], 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def rest(self) -> bytes:
        """All that has not been read. Raises Lost."""
        parts = []
        while part := await self.read():
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to read."""
        return self._complete and not self._chunks

    def leave(self) -> None:
        """Keep the connection for the next exchange; one that is in the middle of an answer is closed, which tells
        the replica that nobody waits for it."""
        if self._keep and not self._transport.is_closing():
            self._idle.append(self)
        else:
            self.close()

    def close(self) -> None:
        self._transport.abort()

    async def _more(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._wake = self._loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _changed(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _lose(self, why: str) -> None:
        self._keep, self._lost = False, self._lost or Lost(why)
        self._transport.abort()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.answered = True
        if not self._headed:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._lose(f"what came is not HTTP: {error!r}")
        if not self._headed and self._head_size > _MAX_HEAD:
            self._lose(f"the head of the answer has more than {_MAX_HEAD >> 10} KiB")
        if self._waiting > _MAX_WAITING and not (self._paused or self._complete):
            self._paused = True
            self._transport.pause_reading()
        self._changed()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._headed and not self._framed and exc is None and self._lost is None:
            self._complete = True  # an answer without a length ends with its connection
        self._keep, self._lost = False, self._lost or Lost(f"the connection was closed ({exc or 'without a word'})")
        self._changed()

    # httptools
    def on_message_begin(self) -> None:
        if self._complete:  # nobody asked: who knows whose answer it is
            raise httptools.HttpParserError("more came than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # trailers are for nobody
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # "Continue" and the like; the answer is still to come
            self.headers = []
            return
        self._head_size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._head_size <= _MAX_HEAD:
            self._headed = True
            self._framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._waiting += len(body)

    def on_message_complete(self) -> None:
        if self._headed and not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()


class Connections:
    """The connections to all replicas, by address (`http://host:port`)."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Connection]] = {}

    async def ask(self, address: str, request: bytes, connect: float | None = CONNECT_S) -> Connection:
        """A connection on which the head of the answer to `request` (all its bytes) has come. Raises Lost.
        `connect`: seconds for a fresh connection, None for no bound.

        A kept connection may have been closed from the other side at this very moment: where not a byte has come
        back, a fresh one is tried once. Unreached is raised only for a request that the replica cannot have seen.
        """
        idle = self._idle.setdefault(address, [])
        if idle:
            kept = idle.pop()
            try:
                return await _asked(kept, request)
            except Lost as lost:
                if kept.answered:
                    raise
                with _blaming(lost):
                    fresh = await _connect(address, idle, connect)
        else:
            fresh = await _connect(address, idle, connect)
        return await _asked(fresh, request)

    async def close(self) -> None:
        for idle in self._idle.values():
            for connection in list(idle):
                connection.close()
        await asyncio.sleep(0)  # their end is told in the loop's next round


async def listens(address: str) -> bool:
    """Whether somebody takes connections there."""
    try:
        (await _connect(address, [], CONNECT_S)).close()
    except Unreached:
        return False
    return True


@contextmanager
def _blaming(earlier: Lost) -> Iterator[None]:
    """Raise Lost for one that cannot be reached any more: it may have seen the request by the connection before."""
    try:
        yield
    except Unreached as error:
        raise Lost(f"{earlier}; then {error}") from error


async def _asked(connection: Connection, request: bytes) -> Connection:
    try:
        connection.ask(request)
        await connection.head()
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(address: str, idle: list[Connection], seconds: float | None) -> Connection:
    host, _, port = address.removeprefix("http://").rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(lambda: Connection(idle), host.strip("[]"), int(port))
    except OSError as error:  # a TimeoutError is one
        raise Unreached(f"{address} cannot be reached: {error!r}") from error
    return connection
