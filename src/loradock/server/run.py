"""Running the server: one process, until SIGTERM or Ctrl-C."""

import logging
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from loradock.configuration.address import local_url, recorded
from loradock.configuration.settings import Settings
from loradock.server.app import Server
from loradock.server.bootstrap import ensure_bootstrap_key, lock_data_dir, open_database
from loradock.server.data_folder import make_folder, told_when_full
from loradock.server.deadline import end_within
from loradock.server.http import Patience
from loradock.server.listening import listen
from loradock.server.request_log import RequestLog
from loradock.server.serving import HttpServer

_ORDERLY_S = 90.0
"""The time for replicas to end and the last writes, after clients have been given their time."""

OnReady = Callable[[Settings, str, bool], None]
"""Called once requests are answered, with the settings as they came out, the bootstrap key and whether it was made
just now."""


def write_log(level: str) -> None:
    """Log to stderr. Libraries that would tell of every call, health checks too, only say what is wrong."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in ("alembic", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)


def run(settings: Settings, on_ready: OnReady = lambda _settings, _key, _made: None) -> None:
    """Serve until told to stop. Raises BadRequest when the data folder or the port is taken, DataUnusable when
    there is something wrong with the data."""
    write_log(settings.log_level)
    _allow_many_connections()
    make_folder(settings.data_dir)
    with told_when_full(settings.data_dir), lock_data_dir(settings.data_dir):
        listeners = listen(settings.host, settings.port)
        port = listeners[0].getsockname()[1]  # port 0 is any that is free
        settings = replace(settings, port=port)
        database = open_database(settings)
        try:
            key, made = ensure_bootstrap_key(database, settings)
            app = Server(settings, database)
            server = HttpServer(
                RequestLog(app) if settings.log_requests else app,
                ready=lambda: on_ready(settings, key, made),
                leave=lambda: _leave(app, settings),
                end=app.end,
                drain=settings.front.drain_timeout,
                patience=Patience(head=settings.front.receive_timeout),
            )
            # uvicorn raises the signal that ended it once more at its end: being told to stop is not a failure.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with recorded(settings.data_dir, local_url(settings.host, port)):
                _serve(server, app, listeners)
        finally:
            database.close()


def _serve(server: HttpServer, app: Server, listeners: list[socket.socket]) -> None:
    """Raises LoradockError when the server could not begin."""
    try:
        server.run(sockets=listeners)
    except SystemExit:
        if app.failure is None:
            raise
        raise app.failure from None


def _leave(app: Server, settings: Settings) -> None:
    end_within(settings.front.drain_timeout + _ORDERLY_S)
    app.leave()


def _allow_many_connections() -> None:
    """Allow as many open files as the system lets this process have: each connection is one, and the usual 1024 are
    less than a few who leave theirs half open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems have a lower limit besides
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
