"""The streaming proxy: bare ASGI, bytes through in both directions."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Set

from loradock.gateway.keys import KNOWN_ACTOR, KeyCache
from loradock.gateway.proxy._asgi import ClientGone, Headers, Receive, Scope, Send
from loradock.gateway.proxy.bodies import Bodies
from loradock.gateway.proxy.exchange import Exchange
from loradock.gateway.proxy.leaving import watch
from loradock.gateway.proxy.open import OpenExchanges, Revoked
from loradock.gateway.proxy.request import ASKED_MODEL, RequestFields, head_of, with_model
from loradock.gateway.proxy.retry import Again, Loss
from loradock.gateway.proxy.sse import UNGATHERED, WholeEvents
from loradock.gateway.proxy.usage import StreamTap, usage_of
from loradock.gateway.proxy.vllm_requests import for_vllm
from loradock.gateway.routing.routes import EndpointFacts, Route, RouteTable
from loradock.gateway.routing.upstream import Upstream
from loradock.gateway.routing.waking import BACK_S, Waker
from loradock.replicas.connections import Connection, Connections, Lost, Unreached
from loradock.store.actor import ACTOR
from loradock.telemetry.meter import Measured, Meter
from loradock.telemetry.usage import Key, Request, outcome_of
from loradock.types.access import Actor
from loradock.types.enums import Dialect, Outcome
from loradock.types.errors import Internal, LoradockError, ReplicaLost
from loradock.types.protocol import ACCOUNT_HEADER, DIALECT_HEADER

_log = logging.getLogger(__name__)
_ROUTES = ("/chat/completions", "/completions")
PROXY_PATHS = {prefix + route: f"/v1{route}".encode() for route in _ROUTES for prefix in ("/v1", "", "/v1/v1")}
"""Path as clients spell it (a base URL with, without and with twice `/v1`) → path at the replica."""

_REQUEST = (
    b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\nauthorization: %b\r\nx-request-id: %b\r\n"
    + f"{DIALECT_HEADER}: %b\r\n{ACCOUNT_HEADER}: %b\r\n".encode()
    + b"content-length: %d\r\n\r\n%b"
)
# Ours to set, or meant for one connection only (RFC 9110, 7.6.1).
_NOT_FORWARDED = {
    b"connection",
    b"content-length",
    b"date",
    b"keep-alive",
    b"proxy-authenticate",
    b"server",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-request-id",
}
_NOT_FORWARDED_OF_STREAMS = _NOT_FORWARDED | {name for name, _ in UNGATHERED}


class Gateway:
    """ASGI application for POST on `PROXY_PATHS`. `report` hears of replicas that failed a request, `start` of
    stopped endpoints that a request is to start, `meter` of every request that reached an endpoint. `patience`: how
    many seconds a request waits for replicas that are expected back."""

    def __init__(
        self,
        routes: RouteTable,
        keys: KeyCache,
        *,
        report: Callable[[Upstream], None] = lambda _: None,
        start: Callable[[EndpointFacts], None] = lambda _: None,
        meter: Meter | None = None,
        patience: float = BACK_S,
        body_limit: int = 32 << 20,
        keep_alive: float = 3.0,
        revoked: Revoked | None = None,
    ) -> None:
        self._waker = Waker(routes, start, patience)
        self._keys = keys
        self._report = report
        self._meter = meter or Meter()
        self._bodies = Bodies(body_limit)
        self._connections = Connections()
        self._open = OpenExchanges(keep_alive, revoked)

    def end(self, error: LoradockError) -> None:
        """End all requests under way, and tell the clients why."""
        self._open.end(error)

    async def close(self) -> None:
        self._open.close()
        await self._connections.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        exchange = self._exchange(scope, headers, send)
        try:
            await self._serve(exchange, scope, headers, receive)
        except ClientGone:
            return
        except LoradockError as error:
            await exchange.fail(error)
        except asyncio.CancelledError:
            if exchange.end_with is None:
                raise
            exchange.task.uncancel()
            await exchange.fail(exchange.end_with)
        except Exception:
            if exchange.started:  # the server closes the connection: the only way left to say so
                raise
            _log.exception("request %s failed", exchange.request_id.decode("latin-1"))
            await exchange.fail(Internal())
        finally:
            self._open.remove(exchange)
            self._bodies.release(exchange)

    def _exchange(self, scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> Exchange:
        task = asyncio.current_task()
        assert task is not None
        path, now = PROXY_PATHS[scope["path"]], time.monotonic()
        exchange = Exchange(path, b"", _dialect(headers), _request_id(headers), send, self._bodies, task, now)
        self._open.add(exchange)
        return exchange

    async def _serve(self, exchange: Exchange, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        actor: Actor | None = scope.get(KNOWN_ACTOR)
        if actor is None:
            actor = await self._keys.actor(headers.get(b"authorization", b"").decode("latin-1"))
        exchange.key_id = actor.key_id
        exchange.account = actor.account_id
        exchange.body = await self._bodies.read(receive, headers.get(b"content-length"), exchange)
        head = head_of(exchange.body)
        exchange.read(head)
        unwatch = watch(scope, receive, exchange.leave)
        try:
            await self._forward(exchange, head, actor)
        except asyncio.CancelledError:
            if not exchange.left or exchange.task.uncancel():
                raise
            raise ClientGone from None
        finally:
            unwatch()

    async def _forward(self, exchange: Exchange, head: RequestFields, actor: Actor) -> None:
        began = time.perf_counter()
        ACTOR.set(actor.key_name)
        ASKED_MODEL.set(head.model)
        route = await self._waker.resolve(head.model, actor)
        with Measured(self._meter, _key(actor, route), began) as measured:
            loss = await self._attempt(exchange, head, route, measured)
            if loss is not None:
                await self._forward_again(exchange, head, actor, measured, loss)

    async def _forward_again(
        self, exchange: Exchange, head: RequestFields, actor: Actor, measured: Request, loss: Loss | None
    ) -> None:
        again = Again(len(exchange.body))
        while loss is not None:
            await again.allow(loss)
            route = await self._waker.resolve(head.model, actor, again.lost)
            loss = await self._attempt(exchange, head, route, measured, again)

    async def _attempt(
        self, exchange: Exchange, head: RequestFields, route: Route, measured: Request, again: Again | None = None
    ) -> Loss | None:
        """Return how the replica was lost before the client had a byte of the answer, if so."""
        upstream = route.pick(again.lost, again.avoid, head.affinity) if again else route.pick(affinity=head.affinity)
        in_flight = 0
        body = _body(exchange, head, route.engine_name, vllm=upstream.vllm)
        try:
            with upstream.lease(route.engine_name):
                async with upstream.turn(route.adapter):
                    try:
                        await self._ask(exchange, upstream, body, measured)
                    except Lost:
                        in_flight = upstream.broke()
                        raise
        except Lost as error:
            request_id = exchange.request_id.decode("latin-1")
            _log.warning("replica %s failed request %s: %r", upstream.replica_id, request_id, error)
            self._report(upstream)
            if exchange.started:
                raise
            return Loss(upstream, not isinstance(error, Unreached), in_flight)
        return None

    async def _ask(self, exchange: Exchange, upstream: Upstream, body: bytes, measured: Request) -> None:
        reply = await self._connections.ask(upstream.address, _request(exchange, upstream, body))
        try:
            if reply.header(b"content-type").startswith(b"text/event-stream"):
                await _stream(exchange, reply, measured)
            else:
                # Read whole before the first byte goes out, so that a replica lost halfway can still be retried.
                content = await reply.rest()
                told = exchange.remarked(content) if exchange.remarks and reply.status == 200 else content
                await exchange.whole(reply.status, _response_headers(exchange, reply), told)
                if reply.status == 200:
                    measured.tokens = usage_of(content)
                measured.outcome = outcome_of(reply.status)
        finally:
            reply.leave()


def _key(actor: Actor, route: Route) -> Key:
    base = route.engine_name == route.endpoint.name
    return Key(actor.account_id, actor.key_id, route.endpoint.id, "" if base else route.engine_name)


async def _stream(exchange: Exchange, reply: Connection, measured: Request) -> None:
    events, tap = WholeEvents(), StreamTap(asked=exchange.asked, dialect=exchange.dialect)
    measured.streamed, ended = True, False
    try:
        while not ended:
            chunk = await reply.read()
            ended = reply.ended
            whole = tap.feed(events.feed(chunk)) + (events.flush() if ended else b"")
            if not (whole or ended):
                continue
            if measured.first is None:
                measured.first = time.perf_counter() if whole else None
                await exchange.stream(reply.status, _stream_headers(exchange, reply))
            if tap.done or ended:
                measured.outcome = tap.outcome
            await exchange.pass_on(exchange.remarked(whole) if exchange.remarks else whole, more=not ended)
    except Lost:
        if not exchange.started:
            raise
        lost = ReplicaLost("The replica serving this request stopped in the middle of the answer; send it again")
        await exchange.fail(lost)
        measured.outcome = Outcome.SERVER_ERROR
    finally:
        measured.tokens = tap.counted


def _body(exchange: Exchange, head: RequestFields, name: str, *, vllm: bool) -> bytes:
    """Return the body that the replica gets, which knows the model by this name."""
    if not vllm:
        return exchange.body if head.model == name else with_model(exchange.body, name)
    chat = exchange.path.endswith(b"/chat/completions")
    body, exchange.remarks = for_vllm(exchange.body, name, chat=chat)
    return body


def _request(exchange: Exchange, upstream: Upstream, body: bytes) -> bytes:
    """No header of the client's but the request id: its own key is none of the replica's business."""
    return _REQUEST % (
        exchange.path,
        upstream.host,
        upstream.authorization,
        exchange.request_id,
        exchange.dialect.encode(),
        exchange.account.encode(),
        len(body),
        body,
    )


def _response_headers(exchange: Exchange, reply: Connection, dropped: Set[bytes] = _NOT_FORWARDED) -> Headers:
    headers = [field for field in reply.headers if field[0] not in dropped]
    if reply.status == 500:  # what the engine cannot compute, it cannot compute three times
        headers.append((b"x-should-retry", b"false"))
    return headers + exchange.headers


def _stream_headers(exchange: Exchange, reply: Connection) -> Headers:
    return _response_headers(exchange, reply, _NOT_FORWARDED_OF_STREAMS) + UNGATHERED


def _dialect(headers: Mapping[bytes, bytes]) -> Dialect:
    return Dialect.TOGETHER if b"Together" in headers.get(b"user-agent", b"") else Dialect.OPENAI


def _request_id(headers: Mapping[bytes, bytes]) -> bytes:
    given = headers.get(b"x-request-id")
    if given and len(given) <= 128 and given.decode("latin-1").isprintable():
        return given
    return b"%024x" % random.getrandbits(96)
