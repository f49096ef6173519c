"""Sending an answer, as one body or as server-sent events, and noticing a client that leaves."""

import asyncio
import logging

import msgspec
from starlette.types import Message, Receive, Scope, Send

from loradock.engine.http.responses.shape import Json, ResponseFormat
from loradock.engine.service.request_state import RequestState
from loradock.types.errors import Internal, LoradockError

log = logging.getLogger(__name__)


class RequestResponse:
    """An ASGI response. However it ends, the answer is closed, which frees its slots in the engine."""

    def __init__(self, answer: RequestState, shape: ResponseFormat) -> None:
        self._answer = answer
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._stream(send) if self._answer.request.stream else self._whole(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            gone.cancel()
            self._answer.close()

    async def _whole(self, send: Send) -> None:
        status, body, headers = 200, b"", dict[str, str]()
        try:
            async for _ in self._answer.deltas():
                pass
            body = msgspec.json.encode(self._shape.whole())
        except Exception as error:
            problem = _problem(error)
            status, body, headers = problem.status, msgspec.json.encode(problem.body()), problem.headers()
        headers["content-length"] = str(len(body))
        await send(_start(status, b"application/json", [(n.encode(), v.encode()) for n, v in headers.items()]))
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Send) -> None:
        await send(_start(200, b"text/event-stream; charset=utf-8", [(b"cache-control", b"no-cache")]))
        await send(_body(b""))
        opened: set[int] = set()
        try:
            async for choice, delta in self._answer.deltas():
                if choice.index not in opened:
                    opened.add(choice.index)
                    await _event(send, self._shape.opening(choice))
                await _event(send, self._shape.chunk(choice, delta))
            await _event(send, self._shape.closing())
        except Exception as error:
            # The status line has gone out: the clients raise on an event that holds an error.
            await _event(send, _problem(error).body())
        else:
            await send(_body(b"data: [DONE]\n\n"))
        await send(_body(b"", more=False))


def _problem(error: Exception) -> LoradockError:
    if isinstance(error, LoradockError):
        return error
    log.exception("an answer could not be sent", exc_info=error)
    return Internal()


async def _event(send: Send, content: Json | None) -> None:
    if content is not None:
        await send(_body(b"data: " + msgspec.json.encode(content) + b"\n\n"))


def _start(status: int, kind: bytes, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]}


def _body(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
