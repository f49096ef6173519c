"""An exchange: a client's request on its way through the gateway, and what the client has had of its answer."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic

import msgspec

from loradock.gateway.proxy._asgi import Headers, Send, answer, answer_error
from loradock.gateway.proxy.bodies import Bodies
from loradock.gateway.proxy.request import RequestFields
from loradock.gateway.proxy.sse import COMMENT, STREAM_HEADERS, error_event, event_of
from loradock.gateway.proxy.usage import asking_for_usage, can_ask, wants_usage
from loradock.types.enums import Dialect
from loradock.types.errors import LoradockError


@dataclass(slots=True, eq=False)
class Exchange:
    """`started`: the client has had the first byte of the answer, nothing can be retried. A stream's head may have gone
    out before (`headed`), with comments for those who would take silence for the end.
    """

    path: bytes
    body: bytes
    dialect: Dialect
    request_id: bytes
    send: Send
    bodies: Bodies
    task: asyncio.Task[None]
    last: float
    """The time when the client last heard something, by time.monotonic."""
    key_id: str = ""
    account: str = ""
    remarks: list[str] = field(default_factory=list)
    """The gateway's remarks about the request, told in the answer."""
    streams: bool = False
    """Whether the client wants to be answered with a stream."""
    asked: bool = False
    """Whether the usage was asked for by the gateway, not by the client."""
    headed: bool = False
    started: bool = False
    over: bool = False
    left: bool = False
    """Whether the client has gone."""
    end_with: LoradockError | None = None
    """The error by which the gateway itself ends it."""
    _sending: bool = False
    _comment: asyncio.Task[None] | None = None

    @property
    def headers(self) -> Headers:
        return [(b"x-request-id", self.request_id)]

    def read(self, head: RequestFields) -> None:
        """Read what the head says about the answer."""
        self.streams = head.stream is True
        if self.streams and not wants_usage(head.stream_options) and can_ask(head.stream_options):
            self.body, self.asked = asking_for_usage(self.body), True

    def remarked(self, content: bytes) -> bytes:
        """A JSON object, or an event with one, with the remarks as its first member; they are told once."""
        begin = content.find(b"{") + 1
        if not (self.remarks and begin):
            return content
        warnings = msgspec.json.encode([{"message": remark} for remark in self.remarks])
        self.remarks = []
        return content[:begin] + b'"warnings":' + warnings + b"," + content[begin:]

    def start(self) -> None:
        """The answer begins: the request will not be sent again."""
        self.started = True
        self.body = b""
        self.bodies.release(self)

    def end(self, error: LoradockError) -> None:
        """Have the client told, and the answer ended."""
        if not self.over and self.end_with is None:
            self.end_with = error
            self.task.cancel()

    def leave(self) -> None:
        """Cancel the exchange: nobody waits for the answer any more."""
        if not self.left:
            self.left = True
            self.task.cancel()

    async def whole(self, status: int, headers: Headers, content: bytes) -> None:
        """An answer in one piece. Where a stream was expected and its head has gone out, as an event."""
        self.start()
        if self.headed:
            await self.pass_on(event_of(content), more=False)
        else:
            self.over = True
            await answer(self.send, status, headers, content)

    async def stream(self, status: int, headers: Headers) -> None:
        """The head of a stream, which goes out with its first event: until then a lost replica can be replaced."""
        self.start()
        if not self.headed:
            self.headed = True
            self._sending = True
            await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def pass_on(self, events: bytes, *, more: bool) -> None:
        """Whole events."""
        self.over = not more
        if self._comment is not None:
            await asyncio.wait([self._comment])
        self._sending = True
        await self.send({"type": "http.response.body", "body": events, "more_body": more})
        self._sending = False
        self.last = monotonic()

    async def fail(self, error: LoradockError) -> None:
        """Tell the client. Raises the error where it is too late to say anything."""
        if self.over or (self.started and not self.headed):
            raise error
        if self.headed:
            await self.pass_on(error_event(error), more=False)
        else:
            self.over = True
            await answer_error(self.send, error, self.headers)

    def comment_if_quiet(self, since: float) -> None:
        """Sends a comment, which readers of events skip, to a client that has heard nothing since then."""
        if self.streams and self.last <= since and not (self._sending or self.over or self._comment):
            self._comment = asyncio.create_task(self._say_something())

    async def _say_something(self) -> None:
        try:
            if self._sending or self.over:
                return
            if not self.headed:
                self.headed = True
                headers = [*STREAM_HEADERS, *self.headers]
                await self.send({"type": "http.response.start", "status": 200, "headers": headers})
            await self.send({"type": "http.response.body", "body": COMMENT, "more_body": True})
            self.last = monotonic()
        finally:
            self._comment = None
