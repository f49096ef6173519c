"""The replica protocol over HTTP: vLLM's surface, so that real vLLM is a replica too."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from loradock.engine.loop import EngineLoop
from loradock.engine.metrics import render_metrics
from loradock.engine.requests import ChatRequest, CompletionRequest, parse
from loradock.engine.responses import Shape
from loradock.engine.service import GenerationService, Job, Piece
from loradock.types.enums import Dialect
from loradock.types.errors import BadRequest, Internal, LoradockError, Unauthenticated
from loradock.types.protocol import DIALECT_HEADER

log = logging.getLogger(__name__)
T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class EngineServer:
    """Routes over one service. Until `ready` is called every route but /health answers 503."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret
        self._service: GenerationService | None = None
        self._loop: EngineLoop | None = None
        self._started = int(time.time())
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/metrics", self._guard(self._metrics)),
                Route("/v1/models", self._guard(self._models)),
                Route("/v1/chat/completions", self._guard(self._chat), methods=["POST"]),
                Route("/v1/completions", self._guard(self._completions), methods=["POST"]),
                Route("/v1/load_lora_adapter", self._guard(self._load), methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._guard(self._unload), methods=["POST"]),
            ]
        )

    def ready(self, service: GenerationService, loop: EngineLoop) -> None:
        self._service, self._loop = service, loop

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                self._authorize(request)
                return await handler(request)
            except LoradockError as error:
                return JSONResponse(error.body(), error.status)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception:
                log.exception("a request failed")
                return JSONResponse(Internal().body(), 500)

        return guarded

    def _authorize(self, request: Request) -> None:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._secret is not None and not hmac.compare_digest(sent.encode(), self._secret.encode()):
            raise Unauthenticated("this engine wants its replica secret as the bearer token")

    @property
    def service(self) -> GenerationService:
        """Raises Unavailable while the weights are loading."""
        if self._service is None:
            raise StillLoading
        return self._service

    async def _health(self, _: Request) -> Response:
        if self._loop is None or self._loop.failure:
            return JSONResponse({"status": "loading" if self._loop is None else self._loop.failure}, 503)
        return JSONResponse({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        service = self.service
        assert self._loop is not None
        return PlainTextResponse(render_metrics(self._loop, service.adapters))

    async def _models(self, _: Request) -> Response:
        adapters = self.service.adapters
        base = adapters.base_names[0]
        entries: list[tuple[str, str | None, str | None]] = [(name, None, None) for name in adapters.base_names]
        entries += [(name, str(adapter.path), base) for name, adapter in adapters.loaded.items()]
        data = [
            {"id": i, "object": "model", "created": self._started, "owned_by": "loradock", "root": r, "parent": p}
            for i, r, p in entries
        ]
        return JSONResponse({"object": "list", "data": data})

    async def _load(self, request: Request) -> Response:
        name, path = _strings(await request.body(), "lora_name", "lora_path")
        await self.service.adapters.load(name, Path(path))
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        (name,) = _strings(await request.body(), "lora_name")
        await self.service.adapters.unload(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _chat(self, request: Request) -> Response:
        parsed = parse(ChatRequest, await request.body())
        return await self._answer(request, self.service.chat(parsed), chat=True)

    async def _completions(self, request: Request) -> Response:
        parsed = parse(CompletionRequest, await request.body())
        return await self._answer(request, self.service.completion(parsed), chat=False)

    async def _answer(self, request: Request, job: Job, *, chat: bool) -> Response:
        dialect = Dialect.TOGETHER if request.headers.get(DIALECT_HEADER) == Dialect.TOGETHER else Dialect.OPENAI
        shape = Shape(job, dialect, chat, self.service.tokenizer)
        pieces = self.service.run(job)
        first = await _until_disconnect(request, anext(pieces))
        if job.request.stream:
            return StreamingResponse(_events(shape, first, pieces), media_type="text/event-stream")
        return JSONResponse(await _until_disconnect(request, _collect(shape, first, pieces)))


class StillLoading(LoradockError):
    """The engine is still loading its base model."""

    status = 503
    type = "service_unavailable"


async def _until_disconnect(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, or ClientDisconnect with the work cancelled as soon as the client is gone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if task.done():
        return task.result()
    task.cancel()
    raise ClientDisconnect


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _collect(shape: Shape, first: Piece, pieces: AsyncIterator[Piece]) -> dict[str, Any]:
    found: dict[int, list[Piece]] = {first.choice: [first]}
    async for piece in pieces:
        found.setdefault(piece.choice, []).append(piece)
    return shape.whole(found)


async def _events(shape: Shape, first: Piece, pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    seen = {first.choice}
    yield _event(shape.chunk(first, first=True))
    try:
        async for piece in pieces:
            yield _event(shape.chunk(piece, first=piece.choice not in seen))
            seen.add(piece.choice)
    except LoradockError as error:
        yield _event(error.body())
        return
    options = shape.job.request.stream_options
    if options is not None and options.include_usage:
        yield _event(shape.last_chunk())
    yield b"data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _strings(body: bytes, *names: str) -> list[str]:
    try:
        fields = json.loads(body)
        values = [fields[name] for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"the body must be a JSON object with {' and '.join(names)}") from error
    if not all(isinstance(value, str) and value for value in values):
        raise BadRequest(f"{' and '.join(names)} must be non-empty strings")
    return values
