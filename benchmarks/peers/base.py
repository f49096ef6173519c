"""What every peer has to offer."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from benchmarks.adapters import Adapter
from benchmarks.client import Failed, Request, ask, session
from benchmarks.models.shapes import SMOLLM2, Model
from benchmarks.processes import Tree
from benchmarks.workload import Case, Fleet

_PATIENCE = 240.0


@dataclass(frozen=True)
class Setting:
    """What a server is started for: a model, so many sequences at a time, and the tokens that each may have."""

    model: Model = SMOLLM2
    sequences: int = 64
    context: int = 640

    @property
    def tokens(self) -> int:
        return self.sequences * self.context

    def memory_gib(self, bits: float) -> float:
        """About the most that weights of so many bits, keys and values in 16, and all else take."""
        return 1.15 * self.model.parameters * bits / 8 / 2**30 + self.tokens * self.model.kv_bytes / 2**30 + 0.8


USUAL = Setting()
BITS = {"bf16": 16, "f16": 16, "int8": 8.5, "q8_0": 8.5, "int4": 5, "q4_0": 5, "q4_1": 5}
"""Of a weight and its share of the scales, with a head of 8 where the others have 4."""


@dataclass
class Server:
    """A running peer. `started`: seconds from its start to the first token of the base model."""

    tree: Tree
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    started: float = 0.0

    def extra(self, adapter: Adapter | None) -> dict[str, object]:
        """What in a request's body says who is asked."""
        return {"model": "base" if adapter is None else adapter.name}

    async def attach(self, adapter: Adapter) -> None:
        await self.upload(adapter)
        await self.bind(adapter)

    async def upload(self, adapter: Adapter) -> None:
        """Nothing: the server reads the adapter's folder."""

    async def bind(self, adapter: Adapter) -> None:
        """By the surface that vLLM has for it."""
        body = {"lora_name": adapter.name, "lora_path": str(adapter.folder)}
        await call(self, "/v1/load_lora_adapter", body)

    async def detach(self, adapter: Adapter) -> None:
        await call(self, "/v1/unload_lora_adapter", {"lora_name": adapter.name})

    async def end(self) -> None:
        await asyncio.to_thread(self.tree.end)


class Peer(ABC):
    """`settings`: what it is run with, and why, in the words of the report. `memory_gib`: what it takes at most, with
    its adapters and under load. `central_only`: left out of the usual run's
    other cases; `extra`: measured only when it is named or everything is. `base_beside`: also asked for the base model
    while it has adapters. `ours`: its repetitions are not cut short in cases that are not central. `mixes`: it can
    have several adapters asked at a time."""

    name: str
    title: str
    settings: str
    memory_gib = 2.0
    central_only = False
    extra = False
    base_beside = False
    ours = False
    mixes = True

    def asked(self, case: Case) -> bool:
        """Whether a usual run asks it this."""
        beside = case.fleet != "none" and case.used == 0
        return (case.central or not self.central_only) and (self.base_beside or not beside)

    @abstractmethod
    def prepare(self) -> None:
        """Install and convert what is needed. Raises Unavailable."""

    @abstractmethod
    async def start(self, fleet: Fleet) -> Server:
        """Up to the first token of the base model, and with the fleet's adapters ready. Raises Failed."""


async def call(server: Server, path: str, body: dict[str, object]) -> None:
    async with session(server.headers) as http, http.post(server.url + path, json=body) as answer:
        if answer.status >= 400:
            raise Failed(f"{path}: {answer.status} {(await answer.text())[:300]}")


async def until_first_token(server: Server, begun: float) -> None:
    """Fills in `started`. Raises Failed when the process ends or takes minutes."""
    async with session(server.headers) as http:
        while not await _healthy(http, server.url):
            if not server.tree.alive or time.perf_counter() - begun > _PATIENCE:
                await server.end()
                raise Failed(f"it did not start: {server.tree.last_words()}")
            await asyncio.sleep(0.05)
        await ask(http, server.url, Request("Hello", 1, server.extra(None)))
    server.started = time.perf_counter() - begun


async def _healthy(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(f"{url}/health") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def attach_all(server: Server, adapters: Sequence[Adapter]) -> None:
    for adapter in adapters:
        await server.attach(adapter)
