"""Calls of replicas that break off, and of what is no replica at all."""

import asyncio
import contextlib

import pytest

from loradock.replicas.client import ReplicaClient
from loradock.replicas.http import ReplicaHttp
from loradock.types.errors import AdapterRefused, ReplicaLost

LISTED = b'{"object": "list", "data": [{"id": "a/one", "root": "/one", "parent": "base"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n\r\n" % len(LISTED)


@contextlib.asynccontextmanager
async def answering(*parts: bytes, end: str = "close"):
    """The client of a server that answers every call with these bytes, and then closes, resets or keeps the
    connection; `opened` has an entry for every connection."""
    opened: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        opened.append(writer)
        while await reader.read(65536):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if end == "reset":
                writer.transport.abort()
            elif end == "close":
                writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with ReplicaHttp() as http:
            yield ReplicaClient(http, f"http://127.0.0.1:{port}", "secret"), opened
    finally:
        server.close()
        for writer in opened:
            writer.close()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("parts", [(), (HEAD,), (HEAD, LISTED[:20]), (b"not HTTP at all\r\n\r\n",)])
async def test_an_answer_that_breaks_off_is_a_lost_replica(parts, end):
    async with answering(*parts, end=end) as (client, _):
        with pytest.raises(ReplicaLost):
            await client.adapters()
        told = await client.vitals()
        assert not await client.healthy()
        assert told.why


async def test_connections_are_kept_and_a_closed_one_is_not_used_again():
    async with answering(HEAD, LISTED, end="keep") as (client, opened):
        for _ in range(3):
            assert await client.adapters() == {"a/one": "/one"}
        assert len(opened) == 1
        opened[0].close()
        await opened[0].wait_closed()
        assert await client.adapters() == {"a/one": "/one"}
        assert len(opened) == 2


async def test_no_proxy_of_the_environment_stands_between(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with answering(HEAD, LISTED) as (client, _):
        assert await client.adapters() == {"a/one": "/one"}


async def test_a_redirection_is_no_success(tmp_path):
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with answering(moved) as (client, _):
        with pytest.raises(AdapterRefused):
            await client.load("a/one", tmp_path)
