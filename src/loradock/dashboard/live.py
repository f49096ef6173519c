"""Pages that stay true while they are open: parts of a page, rendered anew and sent where they changed.

One ticker looks after everybody who has the same thing open, so that ten viewers cost what one does; without
viewers there is none. A slow viewer misses steps in between, never the last one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass

from loradock.gateway.proxy.sse import COMMENT, UNGATHERED
from loradock.types.errors import LoradockError

_log = logging.getLogger(__name__)
_LONGEST_S = 300.0
"""A stream ends after this long; the browser opens the next one, which asks anew who it belongs to."""
_RETRY_MS = 1000
HEADERS = {name.decode(): value.decode() for name, value in UNGATHERED}


@dataclass(frozen=True, slots=True)
class Parts:
    """Name → HTML, and how many seconds they may stand."""

    html: dict[str, str]
    pause: float


Read = Callable[[], Awaitable[Parts]]
Allowed = Callable[[], Awaitable[bool]]


class Live:
    """`read` must give the same for everybody who follows the same key.

    For `trust_s` seconds a viewer who was allowed to see something is not asked about again. After `quiet_s` seconds
    without news a stream is sent a comment, for proxies that end what is silent.
    """

    def __init__(self, trust_s: float = 5.0, quiet_s: float = 3.0) -> None:
        self._trust_s = trust_s
        self._quiet_s = quiet_s
        self._tickers: dict[Hashable, _Ticker] = {}

    async def follow(self, key: Hashable, read: Read, allowed: Allowed) -> AsyncIterator[bytes]:
        """Server-sent events, named like the parts; ends when the thing is gone, when this viewer is no longer
        `allowed` to see it, and after some minutes."""
        ticker = self._tickers.get(key)
        if ticker is None:
            ticker = self._tickers[key] = _Ticker(read)
        ticker.viewers += 1
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        try:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            async for changed in ticker.changes(clock() + _LONGEST_S, self._quiet_s):
                if changed is not COMMENT and clock() > asked_at + self._trust_s:
                    if not await allowed():
                        return
                    asked_at = clock()
                yield changed
        finally:
            ticker.viewers -= 1
            if not ticker.viewers:
                ticker.end()
                self._tickers.pop(key, None)

    def close(self) -> None:
        """The server stops: end all streams, which it would otherwise wait for."""
        for ticker in self._tickers.values():
            ticker.end()


class _Ticker:
    def __init__(self, read: Read) -> None:
        self.viewers = 0
        self._read = read
        self._parts: dict[str, tuple[int, str]] = {}  # name → (version, HTML)
        self._version = 0
        self._news = asyncio.Event()
        self._over = False
        self._task = asyncio.create_task(self._run())

    def end(self) -> None:
        self._over = True
        self._task.cancel()
        self._announce()

    async def changes(self, until: float, quiet_s: float) -> AsyncIterator[bytes]:
        """All parts, then those that change, and comments between, up to `until` on the event loop's clock."""
        seen = 0
        clock = asyncio.get_running_loop().time
        while not self._over and clock() < until:
            if fresh := [(name, html) for name, (version, html) in self._parts.items() if version > seen]:
                seen = self._version
                yield b"".join(_event(name, html) for name, html in fresh)
                continue
            try:
                async with asyncio.timeout_at(min(until, clock() + quiet_s)):
                    await self._news.wait()
            except TimeoutError:
                yield COMMENT

    async def _run(self) -> None:
        try:
            while True:
                parts = await self._read()
                self._take(parts.html)
                await asyncio.sleep(parts.pause)
        except LoradockError:
            self._over = True  # it was deleted: the page says so when it is loaded anew
        except Exception:
            _log.exception("a page's live parts cannot be read; its viewers try again")
            self._over = True
        self._announce()

    def _take(self, html: dict[str, str]) -> None:
        changed = {name: text for name, text in html.items() if self._parts.get(name, (0, None))[1] != text}
        if changed:
            self._version += 1
            self._parts |= {name: (self._version, text) for name, text in changed.items()}
            self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _event(name: str, html: str) -> bytes:
    data = "".join(f"data: {line}\n" for line in html.splitlines()) or "data:\n"
    return f"event: {name}\n{data}\n".encode()
