"""Streams through a real nginx, which gathers, packs and gives up, unless it is asked not to."""

import asyncio
import contextlib

import httpx
import pytest

from tests.gateway.scripted import replica
from tests.gateway.test_long_streams import HEAD, slowly, uncommented
from tests.gateway.test_odd_replicas import ASKING, EVENT, Edge, chunk
from tests.nginx import nginx
from tests.rig import serve
from tests.servers import free_port


@contextlib.asynccontextmanager
async def behind(folder, talk, rules, keep_alive=0.5):
    port = free_port()
    async with replica(talk) as (address, seen):
        edge = Edge(address, keep_alive=keep_alive)
        try:
            async with serve(edge) as url:
                stack = contextlib.ExitStack()
                proxy = nginx(folder, {port: f"{rules} location / {{ proxy_pass {url}; }}"})
                await asyncio.to_thread(stack.enter_context, proxy)
                with stack:
                    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                        yield client, seen
        finally:
            await edge.gateway.close()


async def test_a_proxy_that_gives_up_soon_waits_for_a_late_first_token(tmp_path):
    talk = slowly(HEAD + chunk(EVENT), chunk(EVENT), b"0\r\n\r\n", quiet=3)
    async with behind(tmp_path, talk, "proxy_read_timeout 1s;") as (client, _):
        response = await client.post("/v1/completions", json=ASKING)
        assert response.status_code == 200
        assert uncommented(response.content) == EVENT * 2


async def test_the_second_of_two_proxies_waits_too(tmp_path):
    talk = slowly(HEAD + chunk(EVENT), chunk(EVENT), b"0\r\n\r\n", quiet=3)
    async with behind(tmp_path / "first", talk, "") as (client, _):
        port = free_port()
        rules = f"location / {{ proxy_pass {client.base_url}; }}"
        with contextlib.ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, nginx(tmp_path / "second", {port: rules}))
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=2) as second:
                response = await second.post("/v1/completions", json=ASKING)
    assert response.status_code == 200
    assert uncommented(response.content) == EVENT * 2


@pytest.mark.parametrize(
    "rules",
    ["", "gzip on; gzip_types text/event-stream; gzip_proxied any;", "proxy_buffers 8 64k; proxy_buffer_size 64k;"],
)
async def test_each_event_passes_as_it_comes(tmp_path, rules):
    """The replica goes on only once the client has what was sent before."""
    arrived = asyncio.Event()

    async def talk(_, writer):
        writer.write(HEAD)
        for _ in range(5):
            writer.write(chunk(EVENT))
            await writer.drain()
            await asyncio.wait_for(arrived.wait(), 10)
            arrived.clear()
        writer.write(b"0\r\n\r\n")

    async with (
        behind(tmp_path, talk, rules) as (client, _),
        client.stream("POST", "/v1/completions", json=ASKING) as response,
    ):
        content = b""
        async for piece in response.aiter_bytes():
            content += piece
            if content.endswith(EVENT):
                arrived.set()
        assert content.count(EVENT) == 5
