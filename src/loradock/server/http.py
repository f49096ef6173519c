"""HTTP/1.1 as uvicorn speaks it, with what an open port needs besides: bounds on the size and time of what comes in,
upgrades that are passed over, and a last answer that is not lost with its connection.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from loradock.gateway.proxy.leaving import LEFT, Listener
from loradock.server.corking import CorkedTransport
from loradock.types.errors import BadRequest, HeadTooLarge, LoradockError, RequestTooSlow

if TYPE_CHECKING:
    import asyncio

_ERROR_HEAD = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
_NO_HTTP = "This is not a valid HTTP/1.1 request"
_UPGRADING = {b"upgrade", b"http2-settings"}


@dataclass(frozen=True, slots=True)
class Patience:
    """`head`: seconds for a request's head, and for a pause within its body; a body comes with `rate` bytes per second
    at least. `head_bytes`: how large a head may be. After an answer that came before the end of its request, up to
    `drained` bytes are read and thrown away for `linger` seconds: a connection that is closed on what was not read is
    reset, and the answer with it (RFC 9112, 9.6)."""

    head: float = 20.0
    rate: int = 512
    head_bytes: int = 64 << 10
    linger: float = 10.0
    drained: int = 256 << 20


class HttpProtocol(HttpToolsProtocol):
    """`sweep` is to be called about once a second: there are no timers per request."""

    patience: ClassVar[Patience] = Patience()

    def connection_made(self, transport: "asyncio.Transport") -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = True
        self._in_body = False
        self._upgrading = self._oversized = self._leaving = False
        self._since = self._last = self.loop.time()
        self._came = self._piece = 0
        self._ended_within = False
        self._listeners: set[Listener] = set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell_left()

    def _tell_left(self) -> None:
        for left in list(self._listeners):
            left()

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            self._throw_away(data)
            return
        self._unset_keepalive_if_required()
        self._piece = len(data)
        self._ended_within = False
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._feed_rest(data, upgrade)
        except httptools.HttpParserError as error:
            self._refuse(self._too_large if self._oversized else BadRequest(f"{_NO_HTTP}: {error}"))
        else:
            if (self._in_head or self._in_body) and not self._leaving:
                self._note()

    def _feed_rest(self, data: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Not by calling itself: one piece may hold thousands of requests that wish to upgrade."""
        rest = memoryview(data)
        while True:
            rest = rest[upgrade.args[0] :]
            self._pass_over_upgrade()
            if self._leaving:
                return
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as another:
                upgrade = another

    def _note(self) -> None:
        """A request is under way. What came in one piece with its end never gets here."""
        self._last = self.loop.time()
        if not self._came:
            self._since = self._last
        if not self._ended_within:  # else most of the piece may be the requests' before
            self._came += self._piece
        if self._in_head and self._came > self.patience.head_bytes:
            self._refuse(self._too_large)
        elif self._in_body and not isinstance(self.cycle.transport, _Lingering):
            self.cycle.transport = _Lingering(self)  # type: ignore[assignment]

    @property
    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(limit=self.patience.head_bytes >> 10)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._came = 0
        HttpToolsProtocol.on_message_begin(self)  # super() would be looked up for every request
        self.scope[LEFT] = self._listeners  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._piece > self.patience.head_bytes:
            self._oversized = sum(len(name) + len(value) for name, value in self.headers) > self.patience.head_bytes
        if self._oversized:
            raise ValueError("the head is too large")  # ends the parser's work
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._in_body = True
        self._came = 0
        HttpToolsProtocol.on_headers_complete(self)
        self.cycle.transport = CorkedTransport(self.transport, self.loop)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        if not self._upgrading:
            self._in_body = False
            self._ended_within = True
            HttpToolsProtocol.on_message_complete(self)
            self._came = 0

    def _pass_over_upgrade(self) -> None:
        """A server may answer as if it had not been asked to speak another protocol (RFC 9110, 7.8). The parser has
        stopped behind the head, so a new one reads the request without that wish."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(BadRequest("This server is not a proxy: it does not take CONNECT."))
            return
        head = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        head += [b"%b: %b" % field for field in map(_without_upgrade, self.headers) if field is not None]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._upgrading = False
        self.parser.feed_data(b"\r\n".join([*head, b"", b""]))

    def sweep(self, now: float) -> None:
        """Ends what is too slow."""
        patience = self.patience
        if self._leaving:
            if now - self._since > patience.linger:
                self.transport.close()
        elif self._in_head and self.timeout_keep_alive_task is None and not self._answering:
            if now - self._since > patience.head and self._came:
                self._refuse(RequestTooSlow())
            elif now - self._since > patience.head:
                self.transport.close()
        elif self._in_body and (self.flow.read_paused or self.cycle.waiting_for_100_continue):
            self._since += now - self._last
            self._last = now  # it is not the client that everybody waits for
        elif self._in_body:
            late = now - self._since > patience.head + self._came / patience.rate
            if late or now - self._last > patience.head:
                self._give_up()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _give_up(self) -> None:
        """The rest of a body does not come."""
        if self._answering and not self.cycle.response_started:
            self._refuse(RequestTooSlow())
        else:
            self.transport.close()

    def _refuse(self, error: LoradockError) -> None:
        """Answers by itself, and is done with this connection."""
        if self.transport.is_closing():
            return
        if self.pipeline:  # nothing can be told before the answers to requests that came earlier
            self._leaving = True
            self.transport.close()
            return
        if not (self._answering and self.cycle.response_started):
            body = msgspec.json.encode(error.body())
            self.transport.write(STATUS_LINE[error.status] + _ERROR_HEAD % len(body) + body)
        self.leave()

    def leave(self) -> None:
        """Close once the client has had the chance to read what was sent. Who waits for more of the request, or still
        answers it, is told that the client left."""
        if self._answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._tell_left()
            self.cycle.transport.flush()  # type: ignore[attr-defined]
        self._leaving = True
        self._since = self.loop.time()
        self._came = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _throw_away(self, data: bytes) -> None:
        self._came += len(data)
        if self._came > self.patience.drained:
            self.transport.close()

    @property
    def unfinished(self) -> bool:
        """Whether there is more of the request to come."""
        return self._in_body and not self._leaving


class _Lingering:
    """The transport of a request whose body was not there at once: it may be answered before that has come."""

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol
        self._transport: CorkedTransport = protocol.cycle.transport  # type: ignore[assignment]
        self.write = self._transport.write
        self.flush = self._transport.flush
        self.is_closing = self._transport.is_closing

    def close(self) -> None:
        self.flush()
        if self._protocol.unfinished:
            self._protocol.leave()
        else:
            self._transport.close()


def _without_upgrade(field: tuple[bytes, bytes]) -> tuple[bytes, bytes] | None:
    name, value = field
    if name in _UPGRADING:
        return None
    if name == b"connection":
        kept = [token for token in value.split(b",") if token.strip().lower() not in _UPGRADING]
        return (name, b",".join(kept)) if kept else None
    return field


def protocol_with(patience: Patience) -> type[HttpProtocol]:
    """The class for a server with these bounds."""
    members: dict[str, Any] = {"patience": patience}
    return type("HttpProtocol", (HttpProtocol,), members)
