"""All engines side by side: for each set of adapters all servers are up at once and take turns, case by case."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

from benchmarks.client import Failed
from benchmarks.environments import Unavailable
from benchmarks.measuring import Pace, measure, warm_up
from benchmarks.peers.base import Peer, Server
from benchmarks.records import Budget, Records
from benchmarks.roofline import add_roofline
from benchmarks.workload import Case, Fleet, fleet

_SLOW = 15.0
"""Seconds: what takes longer than this is repeated less often."""


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


def takes_part(peer: Peer, case: Case, *, everything: bool) -> bool:
    beside = case.fleet != "none" and case.used == 0
    return (peer.base_beside or not beside) and (everything or case.headline or not peer.variant)


class Run:
    def __init__(self, records: Records, budget: Budget, repetitions: int, *, everything: bool) -> None:
        self._records, self._budget, self._repetitions = records, budget, repetitions
        self._everything = everything
        self._paces: dict[tuple[str, str], Pace] = {}

    async def cases(self, peers: Sequence[Peer], cases: Sequence[Case]) -> bool:
        """False when the time was up before all was measured."""
        for name in dict.fromkeys(case.fleet for case in cases):
            group = [case for case in cases if case.fleet == name]
            todo = [peer for peer in peers if any(self._wanting(peer, case) for case in group)]
            if not todo:
                continue
            if not self._budget.allows():
                return False
            add_roofline(self._records)
            async with self._servers(todo, fleet(name)) as servers:
                await self._take_turns(servers, group, fleet(name))
        return not any(self._wanting(peer, case) for peer in peers for case in cases)

    def _wanting(self, peer: Peer, case: Case) -> int:
        """How many repetitions are still to be made."""
        if not takes_part(peer, case, everything=self._everything) or peer.name in self._records.missing:
            return 0
        done = self._records.where(kind="load", peer=peer.name, case=case.name)
        slow = done and done[0]["seconds"] > _SLOW
        return (max(1, self._repetitions - 1) if slow else self._repetitions) - len(done)

    @contextlib.asynccontextmanager
    async def _servers(self, peers: Sequence[Peer], group: Fleet) -> AsyncIterator[dict[Peer, Server]]:
        servers: dict[Peer, Server] = {}
        try:
            for peer in peers:
                try:
                    servers[peer] = server = await peer.start(group)
                except Failed as reason:
                    self._records.missing[peer.name] = str(reason)
                    print(f"{peer.title} is left out: {reason}", flush=True)
                    continue
                memory = await asyncio.to_thread(server.tree.memory)
                self._records.add(
                    kind="start",
                    peer=peer.name,
                    fleet=group.name,
                    seconds=server.started,
                    pss_mib=memory.pss,
                    rss_mib=memory.rss,
                )
                print(f"{peer.title}: first token {server.started:.1f} s after the start", flush=True)
            yield servers
        finally:
            for server in servers.values():
                await server.end()

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
        try:
            pace = self._paces.get(key) or await warm_up(server, case, group)
            self._paces[key] = pace
            repetition = len(self._records.where(kind="load", peer=peer.name, case=case.name))
            found = await measure(server, case, group, pace.rounds, repetition)
        except (Failed, OSError) as reason:
            self._records.missing[peer.name] = f"{case.name}: {reason}"
            print(f"{peer.title} fails at {case.name}: {reason}", flush=True)
            return
        self._records.add(kind="load", peer=peer.name, case=case.name, repetition=repetition, **found)
        print(f"{case.name:45s} {peer.title:24s} {found['tokens_per_s']:8.1f} tokens/s", flush=True)
