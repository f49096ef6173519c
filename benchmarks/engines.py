"""All engines side by side: for each set of adapters all servers are up at once, as far as the memory allows, and take
turns, case by case."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence

import aiohttp

from benchmarks.client import Failed
from benchmarks.environments import Unavailable
from benchmarks.measuring import Pace, measure, warm_up
from benchmarks.models.shapes import SMOLLM2, Model
from benchmarks.peers.base import Peer, Server
from benchmarks.records import Budget, Records
from benchmarks.roofline import add_roofline
from benchmarks.room import Pressure, groups, too_large
from benchmarks.workload import Case, Fleet, fleet

_SLOW = 30.0
"""Seconds: what takes longer than this is repeated less often."""
PATIENCE = 180.0
"""Seconds after which a server is taken to answer no more."""


def available(peers: Iterable[Peer], records: Records) -> list[Peer]:
    """Set up each one; those that cannot be are noted with the reason and left out."""
    ready = []
    for peer in peers:
        try:
            peer.prepare()
        except Unavailable as reason:
            records.missing[peer.name] = str(reason)
            print(f"{peer.title} is left out: {reason}", flush=True)
        else:
            records.missing.pop(peer.name, None)
            ready.append(peer)
    records.save()
    return ready


class Run:
    """`memory_gib`: what the servers that are up at a time may take together. `model`: the one of all cases."""

    def __init__(
        self,
        records: Records,
        budget: Budget,
        repetitions: int,
        *,
        everything: bool,
        memory_gib: float,
        model: Model = SMOLLM2,
        patience: float = PATIENCE,
    ) -> None:
        self._records, self._budget, self._repetitions = records, budget, repetitions
        self._memory_gib, self._model, self._patience = memory_gib, model, patience
        self._everything = everything
        self._paces: dict[tuple[str, str], Pace] = {}
        self._failed: set[tuple[str, str]] = set()

    async def cases(self, peers: Sequence[Peer], cases: Sequence[Case]) -> bool:
        """False when the time was up before all was measured."""
        for name in dict.fromkeys(case.fleet for case in cases):
            group = [case for case in cases if case.fleet == name]
            todo = [peer for peer in peers if any(self._wanting(peer, case) for case in group)]
            if not todo:
                continue
            if not self._model.random:
                add_roofline(self._records)
            for together in self._that_fit(todo, name):
                if not self._budget.allows():
                    return False
                async with self._servers(together, fleet(name, self._model)) as servers:
                    await self._take_turns(servers, group, fleet(name, self._model))
        return not any(self._wanting(peer, case) for peer in peers for case in cases)

    def _that_fit(self, peers: Sequence[Peer], fleet_name: str) -> list[list[Peer]]:
        large = too_large(peers, self._memory_gib)
        for peer in large:
            self._note(peer, fleet_name, f"{fleet_name}: it may take {peer.memory_gib:g} GiB of {self._memory_gib:.1f}")
        found = groups([peer for peer in peers if peer not in large], self._memory_gib)
        if len(found) > 1:
            names = " | ".join(", ".join(peer.name for peer in together) for together in found)
            print(f"{self._memory_gib:.1f} GiB hold not all at once: {names}", flush=True)
        return found

    def _wanting(self, peer: Peer, case: Case) -> int:
        """How many repetitions are still to be made."""
        failed = {(peer.name, case.name), (peer.name, case.fleet)} & self._failed
        unable = case.used > 1 and not peer.mixes
        if failed or unable or not (self._everything or peer.asked(case)):
            return 0
        done = self._records.where(kind="load", peer=peer.name, case=case.name)
        slow = done and done[0]["seconds"] > _SLOW
        fewer = slow or not (self._everything or case.central or peer.ours)
        return (max(1, self._repetitions - 1) if fewer else self._repetitions) - len(done)

    @contextlib.asynccontextmanager
    async def _servers(self, peers: Sequence[Peer], group: Fleet) -> AsyncIterator[dict[Peer, Server]]:
        servers: dict[Peer, Server] = {}
        try:
            for peer in peers:
                try:
                    servers[peer] = server = await peer.start(group)
                except (Failed, OSError, aiohttp.ClientError) as reason:
                    self._note(peer, group.name, f"{group.name}: {reason!r}")
                    continue
                memory = await asyncio.to_thread(server.tree.memory)
                self._records.add(
                    kind="start",
                    peer=peer.name,
                    fleet=group.name,
                    model=self._model.name,
                    seconds=server.started,
                    pss_mib=memory.pss,
                    rss_mib=memory.rss,
                )
                print(f"{peer.title}: first token {server.started:.1f} s after the start", flush=True)
            yield servers
        finally:
            await asyncio.gather(*(server.end() for server in servers.values()))

    async def _take_turns(self, servers: dict[Peer, Server], cases: Sequence[Case], group: Fleet) -> None:
        for turn in range(self._repetitions):
            for case in cases:
                for peer, server in servers.items():
                    if self._wanting(peer, case) > self._repetitions - 1 - turn:
                        await self._one(peer, server, case, group)

    async def _one(self, peer: Peer, server: Server, case: Case, group: Fleet) -> None:
        key = (peer.name, case.name)
        if not self._budget.allows(self._paces[key].seconds if key in self._paces else 0.0):
            return
        pressure = Pressure(time.monotonic)
        try:
            async with asyncio.timeout(self._patience):
                pace = self._paces.get(key) or await warm_up(server, case, group)
                self._paces[key] = pace
                repetition = len(self._records.where(kind="load", peer=peer.name, case=case.name))
                found = await measure(server, case, group, pace.rounds, repetition)
        except (Failed, OSError, aiohttp.ClientError) as reason:
            short = " (the machine was short of memory)" if pressure.pressed() else ""
            self._note(peer, case.name, f"{case.name}{short}: {reason!r}")
            return
        pressed = pressure.pressed()
        self._records.add(kind="load", peer=peer.name, case=case.name, repetition=repetition, pressed=pressed, **found)
        short = ", short of memory" if pressed else ""
        print(f"{case.name:45s} {peer.title:24s} {found['tokens_per_s']:8.1f} tokens/s{short}", flush=True)

    def _note(self, peer: Peer, where: str, reason: str) -> None:
        """`where`: the case or the set of adapters that this run asks it no more."""
        self._failed.add((peer.name, where))
        self._records.missing[peer.name] = reason
        self._records.save()
        print(f"{peer.title} fails at {reason}", flush=True)
