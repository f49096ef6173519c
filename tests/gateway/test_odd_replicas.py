"""What a client of the gateway gets when a replica misbehaves: real sockets on both sides."""

import asyncio
import contextlib
import json

import httpx
import pytest

from loradock.gateway.keys import KNOWN_ACTOR
from loradock.gateway.proxy.proxy import Gateway
from loradock.gateway.routing.routes import EndpointFacts, Route, RouteTable
from loradock.gateway.routing.upstream import Upstream
from loradock.telemetry.meter import Meter
from loradock.types.access import Actor
from loradock.types.enums import EndpointState
from tests.gateway.scripted import replica, saying, then_closing
from tests.rig import eventually, serve

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
EVENT = b"data: x\n\n"
ASKING = {"model": "dock", "stream": True}


class Edge:
    """The gateway before one replica. `reported` are those that failed a request."""

    def __init__(self, address: str, **settings) -> None:
        facts = EndpointFacts("endpoint-1", "dock", "acct_1", "alice", False, EndpointState.STARTED)
        routes = RouteTable()
        self.upstream = Upstream("rep_1", address, "secret")
        routes.publish("dep_1", Route(facts, "dock", (self.upstream,)), [])
        self.reported, self.meter = [], Meter()
        self.gateway = Gateway(routes, None, report=self.reported.append, meter=self.meter, **settings)

    async def __call__(self, scope, receive, send):
        await self.gateway({**scope, KNOWN_ACTOR: Actor("acct_1", "alice", "key_1", "key")}, receive, send)

    @property
    def served(self):
        return self.meter.now_served(["endpoint-1"]).of("endpoint-1")[""]


@contextlib.asynccontextmanager
async def before(talk, **settings):
    async with replica(talk) as (address, seen):
        edge = Edge(address, **settings)
        try:
            async with serve(edge) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
                yield client, edge, seen
        finally:
            await edge.gateway.close()


def ask(client, **body):
    return client.post("/v1/completions", json={"model": "dock", **body})


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"], ids=["nothing", "ssh", "cut"]
)
async def test_an_answer_that_is_none_is_tried_again_and_then_a_clear_503(answer):
    async with before(then_closing(answer)) as (client, edge, seen):
        response = await ask(client)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "replica_lost")
        assert [upstream.replica_id for upstream in edge.reported] == ["rep_1", "rep_1"]
        assert len(seen.requests) == 2
        assert edge.served.server_error == 1


@pytest.mark.parametrize("rest", [b"", b"9\r\ndata", b"not a chunk\r\n"], ids=["between", "within", "broken"])
async def test_a_stream_that_breaks_ends_with_an_error_event(rest):
    async with before(then_closing(STREAM + b"\r\n" + chunk(EVENT) + chunk(EVENT) + rest)) as (client, edge, seen):
        events = (await ask(client, **ASKING)).content.split(b"\n\n")
        assert events[:2] == [b"data: x"] * 2 and events[3:] == [b""]
        assert json.loads(events[2][6:])["error"]["code"] == "replica_lost"
        assert (len(seen.requests), len(edge.reported)) == (1, 0)


async def test_headers_of_one_connection_stay_there_and_others_pass():
    answer = STREAM + b"Keep-Alive: timeout=5\r\nServer: x\r\nX-Request-Id: theirs\r\nX-Own: kept\r\n\r\n"
    answer += chunk(EVENT) + b"0\r\nx-trailer: y\r\n\r\n"
    async with before(saying(answer)) as (client, _, seen):
        for _ in range(2):
            response = await client.post("/v1/completions", json=ASKING, headers={"x-request-id": "mine"})
            assert response.content == EVENT
            assert response.headers["x-own"] == "kept"
            assert response.headers.get_list("x-request-id") == ["mine"]
            assert not {"keep-alive", "x-trailer"} & set(response.headers)
        assert seen.connections == 1


async def test_the_bytes_of_a_stream_pass_as_they_are():
    data = b"".join(b": \xff\x00 %d\ndata: {}\n\n" % number for number in range(500))
    async with before(saying(STREAM + b"\r\n" + chunk(data[:777]) + chunk(data[777:]) + b"0\r\n\r\n")) as (
        client,
        _,
        _,
    ):
        assert (await ask(client, **ASKING)).content == data


async def test_a_slow_client_makes_the_replica_wait():
    total, part = 64 << 20, b"data: " + b"x" * (1 << 16) + b"\n\n"

    async def talk(_, writer):
        writer.write(STREAM + b"\r\n")
        while seen.sent < total:
            writer.write(chunk(part))
            await writer.drain()
            seen.sent += len(part)
        writer.write(b"0\r\n\r\n")

    async with before(talk) as (client, _, seen):
        async with client.stream("POST", "/v1/completions", json=ASKING) as response:
            parts = response.aiter_raw()
            got = len(await anext(parts))
            await asyncio.sleep(0.5)
            assert seen.sent < total // 2
            async for more in parts:
                got += len(more)
        assert got == seen.sent


async def test_a_client_that_leaves_a_silent_stream_is_noticed():
    async def talk(reader, writer):
        writer.write(STREAM + b"\r\n" + chunk(EVENT))
        await reader.readexactly(1)

    async with before(talk) as (client, edge, seen):
        async with client.stream("POST", "/v1/completions", json=ASKING) as response:
            await anext(response.aiter_raw())
        await asyncio.wait_for(seen.left.wait(), 10)
        await eventually(lambda: edge.served.aborted == 1)
