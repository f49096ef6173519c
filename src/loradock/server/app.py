"""The whole server as one ASGI application: the gateway's bare routes in front, FastAPI behind."""

import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from starlette.routing import Match

from loradock import __version__
from loradock.api import docs_routes, errors, openapi
from loradock.api.paths import canonical_path
from loradock.api.v1 import account_routes, adapter_routes, endpoint_routes, model_routes
from loradock.api.v1 import observability_routes as watching_routes
from loradock.configuration.settings import Settings
from loradock.control.controller import Controller
from loradock.control.options import ControlOptions
from loradock.control.scaling import ScalingRules
from loradock.dashboard.app import belongs, dashboard
from loradock.dashboard.app import close as close_dashboard
from loradock.dashboard.bridge import PREFIX, Bridge
from loradock.gateway.keys import KNOWN_ACTOR, KeyCache
from loradock.gateway.proxy.proxy import PROXY_PATHS, Gateway
from loradock.gateway.revoked import Revoked
from loradock.gateway.routing.routes import RouteTable
from loradock.operations.services import Services
from loradock.registry.bases.base_models import BaseModels
from loradock.registry.blobs import Blobs
from loradock.registry.settling import Settler
from loradock.registry.sources import SourceRules
from loradock.registry.uploads.uploads import UploadRunner
from loradock.replicas.process import ProcessLauncher
from loradock.replicas.vllm import VllmSetup
from loradock.server.cors import Cors
from loradock.server.life import Life
from loradock.server.open_requests import OpenRequests
from loradock.server.outside import FromOutside
from loradock.store.database import Database
from loradock.telemetry.history import History
from loradock.telemetry.meter import Meter
from loradock.types.errors import LoradockError, ServerStopping, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
UPLOAD_PATH = "/v1/models/upload"
_MAX_BODY = 1 << 20


class Server:
    """ASGI. One dictionary look-up decides whether a request is inference; only the rest meets a framework."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.services = assemble(settings, database)
        controller = self.services.controller
        self._gateway = Gateway(
            self.services.routes,
            self.services.keys,
            report=controller.report,
            start=controller.start_on_request,
            meter=self.services.meter,
            keep_alive=settings.front.keep_alive,
            revoked=None if settings.front.finish_revoked else Revoked(database).among,
        )
        self._cors = Cors(settings.front.allow_origins) if settings.front.allow_origins else None
        self._life = Life(self.services, self._gateway)
        self._api = _api(self.services, self._life)
        self._dashboard = dashboard(self.services)
        self._bridge = Bridge(self.services, self)
        self._open = OpenRequests(self._others)
        self._rest = FromOutside(self._open, settings.front.public_url, settings.front.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PROXY_PATHS:
            await self._gateway(scope, receive, self._tagging(scope, send))
        else:
            await self._rest(scope, receive, send)

    async def _others(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"].startswith(f"{PREFIX}/") and KNOWN_ACTOR not in scope:
                return await self._bridge(scope, receive, send)
            request_id = uuid.uuid4().hex
            scope = {**scope, "path": canonical_path(dict(scope)), "request_id": request_id}
            pages = belongs(scope["path"]) or self._lost_reader(scope)
            if self._cors is not None and not pages:
                if KNOWN_ACTOR not in scope and await self._cors.preflight(scope, send):
                    return None
                send = self._tagging(scope, send)
            if scope["method"] == "POST" and scope["path"] in PROXY_PATHS:  # an unusual spelling of it
                return await self._gateway(scope, receive, send)
            send = _with_request_id(send, request_id)
            if scope["path"] != UPLOAD_PATH:
                receive = _limited(receive)
            if pages:
                return await self._dashboard(scope, receive, send)
        elif scope["type"] == "lifespan":
            send = self._life.telling(send)
        return await self._api(scope, receive, send)

    def _lost_reader(self, scope: Any) -> bool:
        """Whether somebody looks with a browser for what is not here: a page says so, where clients get JSON."""
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        if scope["method"] not in ("GET", "HEAD") or b"text/html" not in accept:
            return False
        return all(route.matches(scope)[0] is Match.NONE for route in self._api.routes)

    def _tagging(self, scope: Scope, send: Send) -> Send:
        """Tag answers for other origins, except those to the dashboard's own scripts."""
        return send if self._cors is None or KNOWN_ACTOR in scope else self._cors.tagging(scope, send)

    @property
    def failure(self) -> LoradockError | None:
        """The reason why it could not begin, where there are words for it."""
        return self._life.failure

    def leave(self) -> None:
        """The server is about to stop: end what would not end by itself."""
        close_dashboard(self._dashboard)

    def end(self) -> None:
        """The time to finish is over: tell the clients of all that still runs, and end it."""
        self._gateway.end(ServerStopping())
        self._open.end()


def assemble(settings: Settings, database: Database) -> Services:
    """The parts, wired and not yet started."""
    blobs = Blobs(settings.data_dir)
    bases = BaseModels(database, blobs, settings.data_dir, settings.import_root)
    settler = Settler(database, blobs, bases)
    routes = RouteTable()
    controller = Controller(
        database,
        ProcessLauncher(
            settings.data_dir / "replicas",
            engine_arguments=settings.engine_args,
            vllm=VllmSetup(settings.vllm_python, settings.vllm_args),
        ),
        routes,
        bases.resolve,
        blobs.root,
        _control_options(settings),
        settle=settler.for_attach,
    )
    uploads = UploadRunner(
        database,
        blobs,
        bases,
        rules=SourceRules(settings.import_root, settings.allow_private_sources),
        after_upload=controller.attach_uploaded,
        trash_days=settings.trash_days,
    )
    meter = Meter()
    history = History(database, meter, controller.readings)
    return Services(settings, database, KeyCache(database), routes, bases, blobs, uploads, controller, meter, history)


def _control_options(settings: Settings) -> ControlOptions:
    scaling = ScalingRules(
        target=settings.scale_target, up_window=settings.scale_up_after, down_window=settings.scale_down_after
    )
    return ControlOptions(
        threads=settings.engine_threads,
        quantization=settings.quantization,
        engine_arguments=settings.engine_args,
        vllm_arguments=settings.vllm_args,
        scaling=scaling,
    )


def _api(services: Services, life: Life) -> FastAPI:
    # FastAPI's own /docs would load its scripts from another host.
    api = FastAPI(title="Loradock", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    api.router.redirect_slashes = False
    api.state.services = services
    errors.install(api)
    for routes in (account_routes, adapter_routes, endpoint_routes, model_routes, watching_routes, docs_routes):
        api.include_router(routes.router)
    api.openapi = lambda: openapi.document(api)  # type: ignore[method-assign]
    return api


def _limited(receive: Receive) -> Receive:
    """Control requests are small; only the files of an upload are not. Raises TooLarge."""
    seen = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > _MAX_BODY:
            raise TooLarge(f"{TooLarge.__doc__} ({_MAX_BODY >> 20} MiB); upload files to {UPLOAD_PATH}")
        return message

    return counted


def _with_request_id(send: Send, request_id: str) -> Send:
    async def tagged(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
        await send(message)

    return tagged
