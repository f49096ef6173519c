"""Attaching while others are served: how soon a new adapter answers, and whether running streams notice."""

import asyncio
import itertools
import shutil
import time
from collections.abc import Awaitable, Callable

import aiohttp

from benchmarks.adapters import Adapter, made
from benchmarks.client import Request, ask, session
from benchmarks.measuring import quantile
from benchmarks.peers.base import Server
from benchmarks.peers.loradock import Engine, Gateway
from benchmarks.records import Records
from benchmarks.workload import fleet

RANK, STREAMS, TOKENS = 16, 4, 64
_IDLE_SECONDS, _SETTLED_SECONDS = 12.0, 3.0
"""How long the streams are watched alone, and how long adapters that were taken off may take to leave memory."""
_ALONE = 25


async def add_attaching(records: Records, count: int) -> None:
    """Through the gateway and to the engine alone, with adapters of rank 16 on all projections: some attached and
    asked for a token while nothing else goes on; then, beside four streams of adapters that were there before, `count`
    attached in a row; then, taken off, attached in a row once more and each asked for a token at once. Without drafts:
    with them tokens come in bursts, and the time between two says little of the steps."""
    adapters = [made(f"attach-{number}", RANK, seed=900_000 + number) for number in range(_ALONE + count)]
    try:
        for name, peer in (("loradock", Gateway(drafts=False)), ("engine", Engine(drafts=False))):
            if records.where(kind="attach", peer=name):
                continue
            server = await peer.start(fleet("8xr8"))
            try:
                await _upload(server, adapters)
                row = await _attach(server, adapters)
            finally:
                await server.end()
            records.add(kind="attach", peer=name, count=count, **row)
            print(f"{peer.title}: attach to first token {row['first_ms_p50']:.0f} ms", flush=True)
    finally:
        for adapter in adapters:
            shutil.rmtree(adapter.folder, ignore_errors=True)


async def _upload(server: Server, adapters: list[Adapter]) -> None:
    """Attaching starts from what lies on the local disk."""
    for adapter in adapters:
        await server.upload(adapter)


async def _attach(server: Server, adapters: list[Adapter]) -> dict[str, float]:
    async with session(server.headers) as http:
        alone = [await _attach_one(http, server, adapter) for adapter in adapters[:_ALONE]]
        row = adapters[_ALONE:]
        streams = Streams(http, server)
        await asyncio.sleep(2)
        idle = await streams.gaps_during(asyncio.sleep(_IDLE_SECONDS))
        attaching = await streams.gaps_during(_each(server.bind, row))
        await _each(server.detach, row)
        await asyncio.sleep(_SETTLED_SECONDS)
        first: list[float] = []

        async def ask_through(adapter: Adapter) -> None:
            first.append(await _attach_one(http, server, adapter))

        asked = await streams.gaps_during(_each(ask_through, row))
        await streams.end()
    found = {
        "first_ms": alone,
        "beside_streams_ms": first,
        "idle_gap_ms": idle,
        "only_attaching_gap_ms": attaching,
        "attaching_gap_ms": asked,
    }
    return {f"{name}_p{share}": quantile(times, share / 100) for name, times in found.items() for share in (50, 99)}


async def _each(work: Callable[[Adapter], Awaitable[None]], adapters: list[Adapter]) -> None:
    for adapter in adapters:
        await work(adapter)


async def _attach_one(http: aiohttp.ClientSession, server: Server, adapter: Adapter) -> float:
    """Milliseconds until the first token through it."""
    begun = time.perf_counter()
    await server.bind(adapter)
    await ask(http, server.url, Request("Tell me about rain.", 1, server.extra(adapter)))
    return 1000 * (time.perf_counter() - begun)


class Streams:
    """Clients that stream without a pause; `gaps_during` returns the milliseconds between their tokens meanwhile."""

    def __init__(self, http: aiohttp.ClientSession, server: Server) -> None:
        self._http, self._server = http, server
        self._gaps: list[tuple[float, float]] = []
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(STREAMS)]

    async def gaps_during(self, work) -> list[float]:
        begun = time.perf_counter()
        await work
        ended = time.perf_counter()
        await asyncio.sleep(1)  # what still runs ends and is counted
        return [1000 * gap for at, gap in self._gaps if begun < at < ended]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, number: int) -> None:
        adapter = fleet("8xr8").adapters[number]
        for turn in itertools.count():
            request = Request(f"{turn}{number} Tell me about the sea.", TOKENS, self._server.extra(adapter))
            answer = await ask(self._http, self._server.url, request)
            self._gaps += zip(answer.events[1:], answer.gaps, strict=True)
