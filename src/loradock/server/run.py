"""Running the server: one process, until SIGTERM or Ctrl-C."""

import logging
import signal
import socket
from collections.abc import Callable

import uvicorn

from loradock.api.settings import Settings
from loradock.server.app import Server
from loradock.server.bootstrap import ensure_bootstrap_key, lock_data_dir, open_database
from loradock.server.data_folder import make_folder
from loradock.types.errors import BadRequest

OnReady = Callable[[str, bool], None]
"""Called once requests are answered, with the bootstrap key and whether it was made just now."""


def run(settings: Settings, on_ready: OnReady = lambda _key, _made: None) -> None:
    """Serve until told to stop. Raises BadRequest when the data folder or the port is taken, DataUnusable when
    there is something wrong with the data."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    make_folder(settings.data_dir)
    with lock_data_dir(settings.data_dir):
        listener = _listen(settings.host, settings.port)
        database = open_database(settings)
        try:
            key, made = ensure_bootstrap_key(database, settings)
            app = Server(settings, database)
            server = _Uvicorn(_config(app), lambda: on_ready(key, made), app.leave)
            # uvicorn raises the signal that ended it once more at its end: being told to stop is no failure.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            server.run(sockets=[listener])
        finally:
            database.close()


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._leave = ready, leave

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leave()
        await super().shutdown(sockets)


def _config(app: Server) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # Server reads them where they matter
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise BadRequest(f"port {port} on {host} cannot be used ({error.strerror}); give another --port") from error
    # Connections inherit it; asyncio leaves it off here, and answers then wait 40 ms for the client's receipt.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
