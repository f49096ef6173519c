"""The API for the dashboard's own scripts: `/ui/api/v1/…` with the session cookie and its secret in a header.

The same routes, gateway included, as `/v1/…` with a key: what the dashboard can do, any client can.
"""

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from loradock.dashboard.security import CSRF_HEADER, check_csrf, who
from loradock.gateway.keys import KNOWN_ACTOR
from loradock.operations.services import Services
from loradock.store.workers import Workers
from loradock.types.access import Actor
from loradock.types.errors import LoradockError, Unauthenticated

PREFIX = "/ui/api"


class SignedOut(Unauthenticated):
    """You are signed out. Sign in again."""


class Bridge:
    """ASGI. Hands requests on to `server` with the actor already known."""

    def __init__(self, services: Services, server: ASGIApp) -> None:
        self._services = services
        self._server = server
        self._workers = Workers("sessions", 2)  # the playground's requests wait for no control call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        try:
            actor = await self._workers.run(lambda: self._actor(connection))
        except LoradockError as error:
            await JSONResponse(error.body(), error.status, error.headers())(scope, receive, send)
            return
        raw = scope.get("raw_path") or scope["path"].encode()
        inner = {
            **scope,
            "path": scope["path"].removeprefix(PREFIX),
            "raw_path": raw.removeprefix(PREFIX.encode()),
            KNOWN_ACTOR: actor,
        }
        await self._server(inner, receive, send)

    def _actor(self, connection: HTTPConnection) -> Actor:
        me = who(connection, self._services)
        if me is None:
            raise SignedOut
        check_csrf(connection, me, connection.headers.get(CSRF_HEADER))
        return me.actor
