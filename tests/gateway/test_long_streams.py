"""Streams that are silent for long, and streams that the gateway itself ends: real sockets on both sides."""

import asyncio
import json

import pytest

from loradock.gateway.proxy.sse import COMMENT
from loradock.types.errors import ServerStopping
from tests.gateway.scripted import saying
from tests.gateway.test_odd_replicas import ASKING, EVENT, STREAM, ask, before, chunk
from tests.rig import eventually

HEAD = STREAM + b"Cache-Control: max-age=9\r\n\r\n"
REFUSAL = b'{"message": "no", "error": {"message": "no", "type": "invalid_request_error", "param": null, "code": null}}'


def slowly(*parts, quiet=0.4):
    """Answers piece by piece, after a pause before each; a piece that is None ends the connection."""
    answers = list(parts)

    async def talk(_, writer):
        while answers:
            await asyncio.sleep(quiet)
            if (part := answers.pop(0)) is None:
                raise ConnectionError
            writer.write(part)
            await writer.drain()
            if part == b"0\r\n\r\n":
                return

    return talk


def uncommented(content: bytes) -> bytes:
    assert COMMENT in content
    return content.replace(COMMENT, b"")


async def test_the_head_and_comments_go_out_while_nothing_comes():
    talk = slowly(HEAD, chunk(EVENT), chunk(EVENT[:5]), chunk(EVENT[5:]), b"0\r\n\r\n")
    async with (
        before(talk, keep_alive=0.1) as (client, edge, _),
        client.stream("POST", "/v1/completions", json=ASKING) as response,
    ):
        pieces = response.aiter_raw()
        assert response.status_code == 200
        content = await anext(pieces)
        assert content.startswith(COMMENT)
        content += b"".join([piece async for piece in pieces])
        assert uncommented(content) == EVENT * 2
        await eventually(lambda: edge.served.ok == 1)


async def test_every_stream_asks_proxies_not_to_gather_it():
    answer = HEAD + chunk(EVENT) + b"0\r\n\r\n"
    async with before(saying(answer)) as (client, _, _):
        prompt = (await ask(client, **ASKING)).headers
    async with before(slowly(answer), keep_alive=0.1) as (client, _, _):
        late = (await ask(client, **ASKING)).headers
    for headers in (prompt, late):
        assert headers.get_list("cache-control") == ["no-cache, no-transform"]
        assert headers["x-accel-buffering"] == "no"
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["x-request-id"]


@pytest.mark.parametrize("lost_at", [(None,), (HEAD, None), (HEAD, chunk(EVENT[:4]), None)])
async def test_a_replica_lost_before_the_first_event_is_replaced_though_the_head_has_gone_out(lost_at):
    talk = slowly(*lost_at, HEAD + chunk(EVENT), b"0\r\n\r\n")
    async with before(talk, keep_alive=0.1) as (client, edge, seen):
        assert uncommented((await ask(client, **ASKING)).content) == EVENT
        assert (len(seen.requests), len(edge.reported)) == (2, 1)


async def test_a_refusal_after_the_head_comes_as_an_event():
    length = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REFUSAL)
    async with before(slowly(b"HTTP/1.1 400 Bad Request\r\n" + length + REFUSAL), keep_alive=0.1) as (client, edge, _):
        response = await ask(client, **ASKING)
        assert response.status_code == 200
        event = uncommented(response.content)
        assert json.loads(event.removeprefix(b"data: ")) == {"error": json.loads(REFUSAL)["error"]}
        assert event.endswith(b"\n\n")
        await eventually(lambda: edge.served.client_error == 1)


async def test_an_answer_that_is_no_stream_gets_no_comments():
    body = b'{"choices": []}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with before(slowly(answer + body), keep_alive=0.1) as (client, _, _):
        assert (await ask(client)).content == body


async def test_comments_can_be_switched_off():
    talk = slowly(HEAD, chunk(EVENT), b"0\r\n\r\n")
    async with before(talk, keep_alive=0) as (client, _, _):
        assert (await ask(client, **ASKING)).content == EVENT


async def endless(_, writer):
    writer.write(HEAD)
    while True:
        writer.write(chunk(EVENT))
        await writer.drain()
        await asyncio.sleep(0.05)


async def silent(reader, _):
    await reader.readexactly(1)


async def test_streams_that_the_server_ends_say_why():
    async with (
        before(endless) as (client, edge, seen),
        client.stream("POST", "/v1/completions", json=ASKING) as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == EVENT
        edge.gateway.end(ServerStopping())
        content = b"".join([piece async for piece in pieces])
        error = json.loads(content.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
        assert "stopping" in error["message"]
        await asyncio.wait_for(seen.left.wait(), 10)


@pytest.mark.parametrize("fields", [{}, ASKING])
async def test_requests_without_a_byte_of_an_answer_get_a_503_at_the_end(fields):
    async with before(silent, keep_alive=0) as (client, edge, seen):
        asking = asyncio.create_task(ask(client, **fields))
        await eventually(lambda: seen.requests)
        edge.gateway.end(ServerStopping())
        response = await asking
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "stopping" in response.json()["error"]["message"]


async def test_a_revoked_key_ends_what_it_began_and_nothing_else():
    revoked = set()

    async def ask_for(key_ids):
        assert key_ids == {"key_1"}
        return key_ids & revoked

    async with (
        before(endless, revoked=ask_for) as (client, _, _),
        client.stream("POST", "/v1/completions", json=ASKING) as response,
    ):
        pieces = response.aiter_raw()
        for _ in range(60):  # some questions long
            assert await anext(pieces) == EVENT
        revoked.add("key_1")
        content = b"".join([piece async for piece in pieces])
        error = json.loads(content.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
