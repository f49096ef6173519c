"""HTTP to replicas: httpcore by itself. With httpx around it a call costs half as much again."""

from dataclasses import dataclass
from types import TracebackType

import httpcore

CALL_S = 900.0
"""For one call in all: a large adapter is read from a slow disk meanwhile."""
_CONNECT_S = 5.0
_IDLE_S = 2.0
"""Connections are kept for shorter than engines keep them (uvicorn: 5 s): none is closed under a call being sent."""
_BROKEN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


class BrokenOff(Exception):
    """No whole answer came; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")


class ReplicaHttp:
    """For any number of replicas and calls at once; whoever calls says how long the answer may take."""

    def __init__(self) -> None:
        self._pool = httpcore.AsyncConnectionPool(keepalive_expiry=_IDLE_S, max_connections=None)

    async def __aenter__(self) -> "ReplicaHttp":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._pool.aclose()

    async def call(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None = None,
        connect: float | None = _CONNECT_S,
    ) -> Reply:
        """`body` is JSON; `connect`: seconds. Raises BrokenOff."""
        sent = list(headers.items())
        if body is not None:
            sent.append(("Content-Type", "application/json"))
        timeouts = {"timeout": {"connect": connect}}
        try:
            answer = await self._pool.request(method, url, headers=sent, content=body, extensions=timeouts)
        except _BROKEN as error:
            raise BrokenOff(_reason(error)) from error
        return Reply(answer.status, answer.content)


def _reason(error: Exception) -> str:
    """The system's own words where it said any: httpcore's are that all attempts failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return str(cause)
        cause = cause.__cause__ or cause.__context__  # httpcore raises its own `from None`
    return str(error) or type(error).__name__
