"""The client of the replicas before replicas that speak oddly, wrongly or not at all."""

import asyncio
import contextlib
import socket

import pytest

from loradock.replicas.connections import Connections, Lost
from tests.gateway.scripted import replica, saying, then_closing
from tests.rig import eventually

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
SIZED = HEAD + b"Content-Length: 11\r\n\r\nhello world"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n6;why=not\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"
TRAILED = CHUNKED[:-2] + b"content-type: leaked\r\nX-Sum: 12\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n" + SIZED
TYPE = [(b"content-type", b"text/plain")]


@pytest.fixture
async def client():
    client = Connections()
    yield client
    await client.close()


async def answer_of(client, address):
    connection = await client.ask(address, REQUEST)
    try:
        return connection.status, [pair for pair in connection.headers if pair in TYPE], await connection.rest()
    finally:
        connection.leave()


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, TRAILED, CONTINUED], ids=["sized", "chunked", "trailed", "100"])
async def test_an_answer_is_the_same_wherever_it_is_cut(client, answer):
    cut = 0

    async def talk(_, writer):
        nonlocal cut
        writer.write(answer[:cut])
        await asyncio.sleep(0.001)
        writer.write(answer[cut:])
        cut += 1

    async with replica(talk) as (address, seen):
        for _ in range(len(answer) + 1):
            assert await answer_of(client, address) == (200, TYPE, b"hello world")
        assert len(seen.requests) == len(answer) + 1
        assert seen.connections == 1 if answer != TRAILED else seen.connections >= 1


async def test_one_byte_at_a_time(client):
    async def talk(_, writer):
        for byte in CHUNKED:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

    async with replica(talk) as (address, _):
        assert await answer_of(client, address) == (200, TYPE, b"hello world")


async def test_trailers_are_headers_of_nothing(client):
    async with replica(saying(TRAILED, SIZED)) as (address, _):
        for _ in range(2):
            connection = await client.ask(address, REQUEST)
            assert await connection.rest() == b"hello world"
            names = [name for name, _ in connection.headers]
            assert names.count(b"content-type") == 1 and b"x-sum" not in names
            connection.leave()


async def test_answers_without_a_body_and_without_a_length(client):
    async with replica(saying(b"HTTP/1.1 204 No Content\r\n\r\n", SIZED)) as (address, seen):
        assert await answer_of(client, address) == (204, [], b"")
        assert await answer_of(client, address) == (200, TYPE, b"hello world")
        assert seen.connections == 1
    async with replica(then_closing(HEAD + b"\r\nall until the end")) as (address, _):
        assert await answer_of(client, address) == (200, TYPE, b"all until the end")


async def test_a_connection_serves_one_request_after_the_other(client):
    async with replica(saying(SIZED, CHUNKED)) as (address, seen):
        for _ in range(5):
            await answer_of(client, address)
        assert seen.connections == 1
        both = [await client.ask(address, REQUEST) for _ in range(2)]
        for connection in both:
            await connection.rest()
            connection.leave()
        assert seen.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Connection: close\r\nContent-Length: 11\r\n\r\nhello world",
        SIZED.replace(b"HTTP/1.1", b"HTTP/1.0"),
        SIZED + SIZED.replace(b"hello world", b"other one's"),
    ],
    ids=["close", "1.0", "surplus"],
)
async def test_a_connection_that_must_not_be_used_again_is_not(client, answer):
    async with replica(saying(answer)) as (address, seen):
        for _ in range(2):
            assert await answer_of(client, address) == (200, TYPE, b"hello world")
        assert seen.connections == 2


async def test_what_comes_unasked_ends_a_kept_connection(client):
    async def talk(_, writer):
        writer.write(SIZED)
        await asyncio.sleep(0.05)
        writer.write(SIZED.replace(b"hello world", b"other one's"))

    async with replica(talk) as (address, seen):
        await answer_of(client, address)
        await asyncio.wait_for(seen.left.wait(), 10)
        assert (await answer_of(client, address))[2] == b"hello world"
        assert seen.connections == 2


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_missed(client):
    async with replica(then_closing(SIZED)) as (address, seen):
        for number in range(1, 4):
            assert (await answer_of(client, address))[0] == 200
            assert seen.connections == number


async def test_a_kept_connection_that_closes_on_the_next_request_is_tried_anew_once(client):
    async def talk(_, writer):
        if len(seen.requests) in (2, 4, 5):
            raise ConnectionError
        writer.write(SIZED)

    async with replica(talk) as (address, seen):
        for _ in range(2):
            assert (await answer_of(client, address))[0] == 200
        assert (len(seen.requests), seen.connections) == (3, 2)
        with pytest.raises(Lost):
            await answer_of(client, address)
        assert (len(seen.requests), seen.connections) == (5, 3)


async def test_nothing_is_asked_twice_once_a_byte_has_come(client):
    async with replica(saying(SIZED)) as (address, seen):
        await answer_of(client, address)
        seen._talk = then_closing(b"H")
        with pytest.raises(Lost):
            await answer_of(client, address)
        assert len(seen.requests) == 2


@pytest.mark.parametrize("answer", [SIZED[:-3], CHUNKED[:-8], CHUNKED[:-2]], ids=["sized", "chunked", "last"])
async def test_an_answer_that_is_cut_is_not_taken_for_whole(client, answer):
    async with replica(then_closing(answer)) as (address, _):
        connection = await client.ask(address, REQUEST)
        got = b""
        with pytest.raises(Lost, match="closed"):
            while True:
                got += await connection.read()
                assert not connection.ended
        assert b"hello world".startswith(got) and got.startswith(b"hello ")
        connection.leave()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not HTTP"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "not HTTP"),
        (HEAD + b"Content-Length: 11\r\nContent-Length: 12\r\n\r\nhello world", "not HTTP"),
        (HEAD + b"Content-Length: 11\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "not HTTP"),
        (HEAD + b"X-Large: " + b"x" * (65 << 10) + b"\r\nContent-Length: 0\r\n\r\n", "64 KiB"),
        (HEAD + b"X-Endless: " + b"x" * (1 << 20), "64 KiB"),
        (HEAD + b"X: y\r\n" * (20 << 10) + b"\r\n", "64 KiB"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "not HTTP"),
        (b"", "closed"),
    ],
    ids=["ssh", "status", "header", "lengths", "smuggled", "large", "endless", "many", "upgrade", "nothing"],
)
async def test_heads_that_are_none(client, answer, says):
    async with replica(then_closing(answer)) as (address, _):
        with pytest.raises(Lost, match=says):
            await client.ask(address, REQUEST)


async def test_a_chunk_without_a_size(client):
    answer = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n"
    async with replica(saying(answer)) as (address, _):
        connection = await client.ask(address, REQUEST)
        assert await connection.read() == b"hello"
        with pytest.raises(Lost, match="not HTTP"):
            await connection.read()
        connection.leave()


async def test_nobody_listens(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Lost, match="cannot be reached"):
            await client.ask(f"http://127.0.0.1:{taken.getsockname()[1]}", REQUEST)


async def test_a_reader_that_is_slow_makes_the_replica_wait(client):
    total, part = 64 << 20, b"x" * (1 << 16)

    async def talk(_, writer):
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % total)
        seen.sent = 0
        while seen.sent < total:
            writer.write(part)
            await writer.drain()
            seen.sent += len(part)

    async with replica(talk) as (address, seen):
        connection = await client.ask(address, REQUEST)
        await asyncio.sleep(0.5)
        assert seen.sent < total // 2
        assert len(await connection.rest()) == total
        connection.leave()
        assert (await answer_of(client, address))[0] == 200
        assert seen.connections == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_leaving_in_the_middle_tells_the_replica(client, begun):
    async def talk(reader, writer):
        writer.write(CHUNKED[:-8] if begun else b"")
        await reader.readexactly(1)

    async with replica(talk) as (address, seen):
        asking = asyncio.create_task(client.ask(address, REQUEST))
        if begun:
            connection = await asking
            await connection.read()
            connection.leave()
        else:
            await eventually(lambda: seen.requests)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        await asyncio.wait_for(seen.left.wait(), 10)


async def test_leaving_a_large_answer_that_nobody_read_spoils_nothing(client):
    """Where the end comes in the very read that fills the room, too."""
    body = b"x" * (300 << 10)
    async with replica(saying(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)) as (address, _):
        for _ in range(20):
            connection = await client.ask(address, REQUEST)
            await asyncio.sleep(0.01)
            connection.leave()
        assert (await answer_of(client, address))[2] == body


async def test_what_came_before_the_end_is_read_also_when_reading_was_paused(client):
    body = b"x" * (8 << 20)
    async with replica(saying(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)) as (address, seen):
        connection = await client.ask(address, REQUEST)
        await asyncio.sleep(0.2)
        connection.close()
        await asyncio.wait_for(seen.left.wait(), 10)
        assert set(await connection.read()) == set(b"x")
        with pytest.raises(Lost):
            await connection.read()
