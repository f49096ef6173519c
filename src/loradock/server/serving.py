"""uvicorn, with an eye on slow senders and an orderly end."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from loradock.server.http import HttpProtocol, Patience, protocol_with

_FAREWELL_S = 5
"""The time for the last answers to clients that are still there when the time to drain is over."""


class HttpServer(uvicorn.Server):
    """A server which, told to stop, calls `leave`, gives what runs `drain` seconds to finish, and calls `end`, which
    has to end what is left. Told so twice, it waits no longer. `ready` is called once requests are answered."""

    def __init__(
        self,
        app: Any,
        *,
        ready: Callable[[], None] = lambda: None,
        leave: Callable[[], None] = lambda: None,
        end: Callable[[], None] = lambda: None,
        drain: float = 10.0,
        patience: Patience = Patience(),  # noqa: B008 - it cannot be changed
    ) -> None:
        super().__init__(_config(app, patience, drain))
        self._ready = ready
        self._leave = leave
        self._end = end
        self._drain = drain
        self._hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._sweep()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._hurry.set)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leave()
        ending = asyncio.create_task(self._end_what_is_left())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_what_is_left(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._drain)
        self._end()
        while True:  # nobody else looks after the connections any more
            self._sweep()
            await asyncio.sleep(1)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpProtocol):
                connection.sweep(now)


def _config(app: Any, patience: Patience, drain: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol_with(patience),
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application reads them where they matter
        timeout_graceful_shutdown=int(drain + _FAREWELL_S),
        timeout_keep_alive=75,
    )
