"""Servers of one setting, as many at a time as the memory holds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import aiohttp

from benchmarks.client import Failed
from benchmarks.peers.base import Peer, Server
from benchmarks.records import Records
from benchmarks.room import groups, too_large
from benchmarks.sizes.widths import Job
from benchmarks.workload import fleet

FAILURES = (Failed, OSError, aiohttp.ClientError)


def note(records: Records, peer: Peer, reason: str) -> None:
    """Why a peer was not asked something."""
    records.missing[peer.name] = reason
    records.save()
    print(f"{peer.title}: {reason}", flush=True)


def that_fit(job: Job, peers: Sequence[Peer], what: str) -> list[list[Peer]]:
    """In groups that are up together; those that do not fit even alone are noted."""
    large = too_large(peers, job.plan.memory_gib)
    for peer in large:
        note(job.records, peer, f"{what}: it may take {peer.memory_gib:.1f} GiB of {job.plan.memory_gib:.1f}")
    return groups([peer for peer in peers if peer not in large], job.plan.memory_gib)


@contextlib.asynccontextmanager
async def serving(records: Records, peers: Sequence[Peer], what: str) -> AsyncIterator[dict[Peer, Server]]:
    """Those that start, without adapters."""
    servers: dict[Peer, Server] = {}
    try:
        for peer in peers:
            try:
                servers[peer] = await peer.start(fleet("none"))
            except FAILURES as reason:
                note(records, peer, f"{what}: {reason!r}")
        yield servers
    finally:
        await asyncio.gather(*(server.end() for server in servers.values()))
