"""The replica protocol over HTTP: vLLM's surface, so that real vLLM is a replica too."""

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from loradock.engine.errors import StillLoading
from loradock.engine.http.bodies import Bodies, object_of, read_body
from loradock.engine.requests.chat import read_chat
from loradock.engine.requests.completion import read_completion
from loradock.engine.requests.reading import present, read
from loradock.types.enums import Dialect
from loradock.types.errors import Internal, LoradockError, Unauthenticated
from loradock.types.protocol import (
    ACCOUNT_HEADER,
    DIALECT_HEADER,
    LOADING,
    ErrorBody,
    ErrorDetail,
    Health,
    LoadAdapter,
    Model,
    ModelList,
    UnloadAdapter,
)

if TYPE_CHECKING:
    from loradock.engine.service.request_state import RequestState
    from loradock.engine.service.service import Service

log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[ASGIApp]]
Parsed = TypeVar("Parsed")


class EngineServer:
    """The engine's HTTP server. Until `ready` is called every route but /health answers 503; `failure` is why the
    engine can serve no more, `loading` what keeps it from serving yet."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret
        self._service: Service | None = None
        self._started = int(time.time())
        self._bodies = Bodies()
        self.failure: str | None = None
        self.loading: str | None = None
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/metrics", self._guard(self._metrics)),
                Route("/v1/models", self._guard(self._models)),
                Route("/v1/chat/completions", self._guard(self._chat), methods=["POST"]),
                Route("/v1/completions", self._guard(self._completions), methods=["POST"]),
                Route("/v1/load_lora_adapter", self._guard(self._load), methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._guard(self._unload), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )

    def ready(self, service: "Service") -> None:
        self._service = service

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> ASGIApp:
            try:
                self._authorize(request)
                return await handler(request)
            except LoradockError as error:
                return JSONResponse(error.body(), error.status, error.headers())
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception:
                log.exception("%s failed", request.url.path)
                return JSONResponse(Internal().body(), 500)

        return guarded

    def _authorize(self, request: Request) -> None:
        if not self._knows_secret(request):
            raise Unauthenticated("missing or wrong replica secret: give it as the bearer token")

    def _knows_secret(self, request: Request) -> bool:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        return not self._secret or hmac.compare_digest(sent.encode(), self._secret.encode())

    @property
    def service(self) -> "Service":
        """Raises StillLoading while there is none."""
        if self._service is None:
            raise StillLoading
        return self._service

    async def _health(self, request: Request) -> Response:
        """Report health, and to whoever has the secret also whether the compute thread makes progress: it may be stuck
        while this answers."""
        if self.failure is not None:
            return _json(Health("failed", self.failure), 503)
        if self._service is None:
            return _json(Health(LOADING, self.loading), 503)
        if not self._knows_secret(request):
            return _json(Health("ok"))
        loop = self._service.loop
        return _json(Health("ok", None, loop.beats, loop.work, round(loop.compute_seconds, 3)))

    async def _metrics(self, request: Request) -> Response:
        service, accept = self.service, request.headers.get("accept", "")
        from loradock.engine.service.metrics_page import render

        body, content_type = render(service.metrics, service.loop, service.adapters, accept)
        return Response(body, headers={"content-type": content_type})

    async def _models(self, _: Request) -> Response:
        adapters = self.service.adapters
        base = adapters.base_names[0]
        models = [Model(id=name, created=self._started) for name in adapters.base_names]
        models += [
            Model(id=name, created=self._started, root=str(path), parent=base, tier=tier)
            for name, path, tier in adapters.listing()
        ]
        return _json(ModelList(data=models))

    async def _chat(self, request: Request) -> ASGIApp:
        service = self.service
        parsed, size = await self._read(request, service, read_chat)
        return _answer(await service.chat(parsed, size, _account(request)), service, chat=True)

    async def _completions(self, request: Request) -> ASGIApp:
        service = self.service
        parsed, size = await self._read(request, service, read_completion)
        return _answer(await service.complete(parsed, size, _account(request)), service, chat=False)

    async def _read(
        self, request: Request, service: "Service", read: Callable[[dict[str, Any], Dialect], Parsed]
    ) -> tuple[Parsed, int]:
        """The request's body, understood, and its size."""
        dialect = _dialect(request)
        async with self._bodies.reading(request) as body:

            def understood() -> Parsed:
                service.encoder.refuse_oversized(body)
                return read(object_of(body), dialect)

            return await service.aside.run(len(body), understood), len(body)

    async def _load(self, request: Request) -> Response:
        asked: LoadAdapter = read(LoadAdapter, present(object_of(await read_body(request))))
        await self.service.adapters.load(asked.lora_name, Path(asked.lora_path), lazy=asked.lazy)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        asked: UnloadAdapter = read(UnloadAdapter, present(object_of(await read_body(request))))
        await self.service.adapters.unload(asked.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")


def _json(message: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(message), status, headers, "application/json")


def _answer(answer: "RequestState", service: "Service", *, chat: bool) -> ASGIApp:
    # Imported here, so that the port answers before the engine has loaded.
    from loradock.engine.http.responses import shape_of
    from loradock.engine.http.streaming import RequestResponse

    return RequestResponse(answer, shape_of(answer, service.tokens, chat=chat))


def _dialect(request: Request) -> Dialect:
    return Dialect.TOGETHER if request.headers.get(DIALECT_HEADER) == Dialect.TOGETHER else Dialect.OPENAI


def _account(request: Request) -> str:
    return request.headers.get(ACCOUNT_HEADER, "")[:128]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = ErrorBody(message=message, error=ErrorDetail(message, "invalid_request_error"))
    return _json(body, error.status_code, error.headers)
