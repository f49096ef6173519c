"""Whole calls of replicas, over the connections that the gateway uses too: a general HTTP client takes several times
the processor time (docs/lab/gateway.md), and each replica is called every second.
"""

from dataclasses import dataclass
from types import TracebackType

from loradock.replicas.connections import CONNECT_S, Connections, Lost

CALL_S = 900.0
"""The time for one call in all: a large adapter is read from a slow disk meanwhile."""


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
    """An HTTP client for any number of replicas and calls at once; whoever calls says how long the answer may take."""

    def __init__(self) -> None:
        self._connections = Connections()

    async def __aenter__(self) -> "ReplicaHttp":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connections.close()

    async def call(
        self,
        method: str,
        address: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None = None,
        connect: float | None = CONNECT_S,
    ) -> Reply:
        """`address` is `http://host:port`, `body` JSON; `connect`: seconds. A call may reach the replica twice, where
        a kept connection broke. Raises BrokenOff."""
        fields = {"Host": address.removeprefix("http://"), **headers}
        if body is not None:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        try:
            connection = await self._connections.ask(address, "\r\n".join(lines).encode() + (body or b""), connect)
            try:
                return Reply(connection.status, await connection.rest())
            finally:
                connection.leave()
        except Lost as lost:
            raise BrokenOff(_reason(lost)) from lost


def _reason(error: Exception) -> str:
    """The system's own words where it said any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return str(error)
