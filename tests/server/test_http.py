"""What an open port has to bear: real sockets against the server's own HTTP."""

import asyncio
import contextlib
import json

import pytest

from loradock.gateway.proxy.leaving import watch
from loradock.server.http import Patience
from loradock.server.serving import HttpServer
from tests.rig import eventually

PATIENCE = Patience(head=1.0, rate=100, linger=2.0)
known_to_have_left: list[str] = []


async def app(scope, receive, send):
    """Says what it was asked; `/early` answers before it reads, `/late` before it asks for the body waits,
    `/stay…` does not answer before the client has left, `/pause` sends the head of its answer and waits for more."""
    assert scope["type"] == "http"
    body, more = b"", scope["path"] != "/early"
    if scope["path"] == "/late":
        await asyncio.sleep(2.5)
    if scope["path"] == "/pause":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            known_to_have_left.append(scope["path"])
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"].startswith("/stay"):
        left = asyncio.Event()
        stop = watch(scope, receive, left.set)
        await left.wait()
        stop()
        known_to_have_left.append(scope["path"])
        return
    names = sorted(name.decode() for name, _ in scope["headers"])
    said = json.dumps({"method": scope["method"], "path": scope["path"], "size": len(body), "names": names}).encode()
    headers = [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture
async def server():
    running = HttpServer(app, patience=PATIENCE, drain=0)
    running.config.port, running.config.lifespan = 0, "off"
    serving = asyncio.create_task(running.serve())
    await eventually(lambda: running.started)
    yield running
    running.should_exit = True
    await serving


@contextlib.asynccontextmanager
async def connection(server):
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader) -> tuple[int, dict]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head.split()[1]), json.loads(await reader.readexactly(int(length.split(b":")[1])))


async def said(server, *pieces: bytes) -> tuple[int, dict]:
    async with connection(server) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        return await answer(reader)


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
WEBSOCKET = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize("wish", [H2C, WEBSOCKET, b"Upgrade: TLS/1.0\r\nConnection: upgrade\r\n"])
@pytest.mark.parametrize("cut", [None, 40, -3])
async def test_a_wish_to_upgrade_is_passed_over_and_the_body_kept(server, wish, cut):
    sent = b"POST /x HTTP/1.1\r\nHost: a\r\n" + wish + b"Content-Length: 5\r\n\r\nhello"
    status, seen = await said(server, *((sent,) if cut is None else (sent[:cut], sent[cut:])))
    assert (status, seen["method"], seen["path"], seen["size"]) == (200, "POST", "/x", 5)
    assert not {"upgrade", "http2-settings"} & set(seen["names"])


async def test_after_a_wish_to_upgrade_the_connection_serves_on(server):
    first = b"POST /1 HTTP/1.1\r\nHost: a\r\n" + H2C + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with connection(server) as (reader, writer):
        writer.write(first + b"GET /2 HTTP/1.1\r\nHost: a\r\n" + H2C + b"\r\n" + b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
        seen = [(await answer(reader))[1] for _ in range(3)]
    assert [(one["path"], one["size"]) for one in seen] == [("/1", 3), ("/2", 0), ("/3", 0)]


async def test_thousands_of_wishes_to_upgrade_in_one_piece_are_passed_over(server):
    wish = b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with connection(server) as (reader, writer):
        writer.write(b"".join(wish % number for number in range(2000)))
        seen = [(await answer(reader))[1]["path"] for _ in range(2000)]
    assert seen == [f"/{number}" for number in range(2000)]


async def test_nonsense_behind_requests_that_are_being_answered_ends_the_connection(server, caplog):
    async with connection(server) as (reader, writer):
        writer.write(b"GET /stay HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 10) == b""
    await eventually(lambda: "/stay" in known_to_have_left)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "sent", [b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
async def test_what_is_not_for_this_server_gets_a_400_in_json(server, sent):
    status, body = await said(server, sent)
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("pieces", [1, 8])
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_has_a_largest_size(server, pieces, end):
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(100)) + end
    size = len(head) // pieces + 1
    status, body = await said(server, *(head[at : at + size] for at in range(0, len(head), size)))
    assert (status, "64 KiB" in body["message"]) == (431, True)


async def test_a_head_that_is_large_enough_passes(server):
    status, _ = await said(server, b"GET / HTTP/1.1\r\nHost: a\r\ncookie: " + b"x" * 60_000 + b"\r\n\r\n")
    assert status == 200


async def test_senders_that_stop_halfway_are_told_and_sent_away(server):
    half = (
        b"GET / HTTP/1.1\r\nHos",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )
    answers = await asyncio.gather(*(said(server, sent) for sent in half))
    assert [status for status, _ in answers] == [408] * len(half)
    await eventually(lambda: not server.server_state.connections)


@pytest.mark.parametrize(
    "begun", [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n"]
)
async def test_a_trickle_does_not_hold_a_connection_for_ever(server, begun):
    async with connection(server) as (reader, writer):
        writer.write(begun)
        told = asyncio.create_task(answer(reader))
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                writer.write(b"x")
                if (await asyncio.wait([told], timeout=0.1))[0]:
                    break
        assert (await told)[0] == 408


async def test_silent_connections_are_closed(server):
    async with connection(server) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_kept_connection_may_rest_between_requests(server):
    async with connection(server) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await answer(reader))[0] == 200
            await asyncio.sleep(2.5)


async def test_who_waits_to_be_asked_for_the_body_is_not_late(server):
    head = b"POST /late HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    async with connection(server) as (reader, writer):
        writer.write(head)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 100")
        writer.write(b"hello")
        assert (await answer(reader))[1]["size"] == 5


@pytest.mark.parametrize("version", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n", b"HTTP/1.1\r\n"])
async def test_an_answer_before_the_end_of_the_body_is_not_lost(server, version):
    """Many clients read only once they have sent everything."""
    size = 16 << 20
    async with connection(server) as (reader, writer):
        writer.write(b"POST /early " + version + b"Host: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
        assert (await answer(reader))[0] == 200


async def test_the_head_of_an_answer_does_not_wait_for_its_body(server):
    async with connection(server) as (reader, writer):
        writer.write(b"POST /pause HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{}")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200")


async def test_the_head_of_an_answer_to_head_comes_though_no_body_follows(server):
    async with connection(server) as (reader, writer):
        writer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(2):
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200")


async def test_the_head_of_an_answer_to_head_comes_though_the_connection_is_closed_before_the_body_has_come(server):
    async with connection(server) as (reader, writer):
        writer.write(b"HEAD /early HTTP/1.1\r\nConnection: close\r\nHost: a\r\nContent-Length: 9\r\n\r\n{}")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200")


async def test_who_never_stops_sending_is_cut_off(server):
    async with connection(server) as (_, writer):
        writer.write(b"POST /early HTTP/1.1\r\nConnection: close\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("then", [b"", b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", b"this is no HTTP\r\n\r\n"])
async def test_that_a_client_leaves_is_noticed_while_it_is_answered(server, then):
    known_to_have_left.clear()
    async with connection(server) as (reader, writer):
        writer.write(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        await answer(reader)
        writer.write(b"POST /stay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" + then)
        await writer.drain()
        await asyncio.sleep(0.1)
        assert known_to_have_left == ([] if not then.startswith(b"this") else ["/stay"])
    await eventually(lambda: known_to_have_left == ["/stay"])
