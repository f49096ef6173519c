"""The engine's process: listen, load, serve, leave."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from loradock.engine.http.server import EngineServer
from loradock.engine.process.announce import announce
from loradock.engine.process.loading_news import tell_of_loading
from loradock.engine.process.options import EngineOptions
from loradock.types.errors import BadRequest, Internal
from loradock.types.protocol import ENGINE_SECRET_ENV

if TYPE_CHECKING:
    from loradock.engine.service.service import Service

log = logging.getLogger(__name__)

_GRACE = 2.0
_SWITCH_INTERVAL = 0.0005


def run(options: EngineOptions) -> None:
    """Serve until SIGTERM or SIGINT. Raises what made it impossible to start or go on."""
    # The compute threads need the interpreter's lock for microseconds at a time: they must not wait 5 ms for it.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(_Process(options).serve())


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one: it sends a token's event for half the time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _Http(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own raises the signal again after its shutdown, and the process would not exit with 0.
        self.should_exit = True


class _Process:
    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._server = EngineServer(os.environ.get(ENGINE_SECRET_ENV))
        self._stop = asyncio.Event()
        self._failure: str | None = None

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        tell_of_loading(self._server)
        listener = socket.create_server((self._options.host, self._options.port), backlog=1024)
        # Connections inherit it; asyncio leaves it off here, and answers then wait 40 ms for the client's receipt.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        announce(self._options.announce, listener.getsockname()[1])
        config = uvicorn.Config(
            self._server.app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=int(_GRACE),
        )
        http = _Http(config)
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        serving.add_done_callback(lambda _: self._stop.set())
        await asyncio.sleep(0)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        try:
            await self._serve_until_stopped()
        finally:
            http.should_exit = True
            await serving
        if self._failure is not None:
            raise Internal(self._failure)

    async def _serve_until_stopped(self) -> None:
        if not self._options.model.exists():
            raise BadRequest("there is no such file or folder")
        # Imported here, so that /health answers while the weights load.
        from loradock.engine.runtime.heap import trim_heap

        service = await asyncio.to_thread(self._build)
        trim_heap()
        # What is loaded stays: looking through it again and again for garbage would hold up a step for 150 to 180 ms.
        gc.freeze()
        gc.enable()
        self._server.ready(service)
        log.info("ready: %s", ", ".join(service.adapters.base_names))
        await self._stop.wait()
        service.loop.stop(_GRACE)
        service.conversations.close()

    def _build(self) -> "Service":
        from loradock.engine.process.assembly import build

        return build(self._options, self._loop, self._fail)

    def _fail(self, reason: str) -> None:
        """Record the failure and stop. Called on the compute thread."""
        self._failure = reason
        self._server.failure = reason
        self._loop.call_soon_threadsafe(self._stop.set)
