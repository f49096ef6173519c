"""Request bodies: read whole, and of the large ones only so many at a time."""

import asyncio
from contextlib import suppress

from loradock.gateway.proxy._asgi import ClientGone, Receive
from loradock.types.errors import RequestTooSlow, TooLarge

_LARGE = 1 << 20
_ROOM = 16 << 20
_GRACE_S = 10.0
_SLOWEST = 256 << 10
"""Bytes a second."""
_TICK_S = 1.0


class Bodies:
    """A large body needs room before it is read and keeps it until it is answered (`release`). Those without room wait
    in their senders' sockets, first come, first served, so that a handful of them does not take the memory that serves
    everybody. Who sends one slower than `_SLOWEST`, after `grace` seconds, has to leave when another waits."""

    def __init__(self, limit: int, room: int = _ROOM, grace: float = _GRACE_S) -> None:
        self._grace = grace
        self._coming: dict[object, tuple[float, asyncio.Timeout]] = {}
        self._limit = limit
        self._room = room
        self._held: dict[object, int] = {}
        self._line = asyncio.Lock()
        self._freed = asyncio.Event()

    async def read(self, receive: Receive, length: bytes | None, holder: object) -> bytes:
        """`length` is the Content-Length, None where there is none. Raises TooLarge, as early as that allows,
        RequestTooSlow and ClientGone."""
        if length is not None and int(length) <= _LARGE:  # nearly all; they need no room
            return await self._read(receive, length, holder, None)
        try:
            async with asyncio.timeout(None) as limit:
                return await self._read(receive, length, holder, limit)
        except TimeoutError:
            raise RequestTooSlow from None
        finally:
            self._coming.pop(holder, None)

    async def _read(
        self, receive: Receive, length: bytes | None, holder: object, limit: asyncio.Timeout | None
    ) -> bytes:
        size = int(length) if length is not None else None
        if size is not None:
            if size > self._limit:
                raise self._too_large()
            if size > _LARGE:
                await self._take(size, holder, limit)
        parts, read = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            parts.append(part)
            read += len(part)
            if read > self._limit:
                raise self._too_large()
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            if size is None and read > _LARGE and holder not in self._held:
                await self._take(self._room, holder, limit)  # nobody knows how much is to come

    def release(self, holder: object) -> None:
        """Harmless for one that holds no room."""
        if self._held.pop(holder, None) is not None:
            self._freed.set()

    def _too_large(self) -> TooLarge:
        limit = f"{self._limit >> 20} MiB"
        return TooLarge(f"The request body is larger than this server accepts ({limit}). Send less text at once.")

    async def _take(self, size: int, holder: object, limit: asyncio.Timeout | None) -> None:
        loop = asyncio.get_running_loop()
        async with self._line:
            # One that is larger than the room is let in alone.
            while self._held and sum(self._held.values()) + size > self._room:
                self._freed.clear()
                self._end_slow(loop.time())
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(_TICK_S, self._grace)):
                        await self._freed.wait()
            self._held[holder] = size
        assert limit is not None
        self._coming[holder] = loop.time() + self._grace + size / _SLOWEST, limit

    def _end_slow(self, now: float) -> None:
        slow = [holder for holder, (due, _) in self._coming.items() if now >= due]
        for holder in slow:
            self._coming.pop(holder)[1].reschedule(now)
