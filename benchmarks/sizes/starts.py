"""From the start of a process to its first token, what it then takes of the memory, and what a second one adds."""

import asyncio
import shutil
import statistics
from pathlib import Path

from benchmarks.client import Request, load
from benchmarks.engines import available
from benchmarks.models import Model, hf_folder
from benchmarks.peers.base import Peer, Server, Setting
from benchmarks.peers.loradock import Engine
from benchmarks.places import CACHE, packaged_gguf
from benchmarks.processes import Memory
from benchmarks.sizes.contexts import Point, prompts, setting
from benchmarks.sizes.serving import note, serving
from benchmarks.sizes.widths import WIDTHS, Job

_CONTEXT, _CLIENTS, _TOKENS = 512, 8, 16


async def add_starts(job: Job) -> bool:
    """False when the time was up before all was measured."""
    for model in job.plan.models:
        chosen = setting(model, _CONTEXT, _CLIENTS)
        peers = available(job.plan.peers_of(chosen), job.records)
        peers = [peer for peer in peers if _fits(job, peer, model)]
        for turn in range(job.plan.repetitions):
            for peer in peers:
                done = job.records.where(kind="replica", peer=peer.name, model=model.name)
                if len(done) <= turn:
                    if not job.budget.allows():
                        return False
                    await _replicas(job, peer, model)
        await _packing(job, model, chosen)
    return job.budget.allows()


def _fits(job: Job, peer: Peer, model: Model) -> bool:
    """Twice: there is a second replica."""
    needed = 2 * peer.memory_gib
    if needed > job.plan.memory_gib:
        note(job.records, peer, f"{model.name.upper()}: two replicas may take {needed:.1f} GiB")
    return needed <= job.plan.memory_gib


async def _replicas(job: Job, peer: Peer, model: Model) -> None:
    """Nothing else is up meanwhile."""
    what = f"{model.name.upper()}: start"
    async with serving(job.records, [peer], what) as first:
        if peer not in first:
            return
        alone = await _used(first[peer], model)
        async with serving(job.records, [peer], what) as second:
            if peer not in second:
                return
            added = await _used(second[peer], model)
            shared = await asyncio.to_thread(first[peer].tree.memory)
            job.records.add(
                kind="replica",
                peer=peer.name,
                model=model.name,
                seconds=first[peer].started,
                rss_mib=alone.rss,
                pss_mib=alone.pss,
                peak_mib=alone.peak,
                second_pss_mib=shared.pss + added.pss - alone.pss,
            )
    print(f"{what:20s} {peer.title:32s} first token {first[peer].started:.2f} s, peak {alone.peak:.0f} MiB", flush=True)


async def _used(server: Server, model: Model) -> Memory:
    """After some clients with a prompt each."""
    texts = prompts(Point(model, _CONTEXT, _CLIENTS), 0)
    await load(server.url, server.headers, [[Request(text, _TOKENS, server.extra(None))] for text in texts])
    return await asyncio.to_thread(server.tree.memory)


async def _packing(job: Job, model: Model, chosen: Setting) -> None:
    """The first start of a model, which packs its weights, and the next one."""
    folder = CACHE / "first-packing"
    for width in WIDTHS:
        peer = Engine(width.engine, drafts=False, setting=chosen, cache=folder)
        asked = job.plan.peers is None or peer.name in job.plan.peers
        if width.name not in job.plan.widths or not asked or not job.budget.allows():
            continue
        if job.records.where(kind="packing", peer=peer.name, model=model.name):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        try:
            seconds = [await _start(job, peer, model) for _ in range(3)]
            packed = sum(file.stat().st_size for file in folder.rglob("*.packed"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if packed and all(seconds):
            later = statistics.median(seconds[1:])
            facts = {"first_s": seconds[0], "later_s": later, "packed_mb": packed / 1e6, "read_mb": _size(model) / 1e6}
            job.records.add(kind="packing", peer=peer.name, model=model.name, **facts)
            print(f"{model.name.upper()}: {peer.title} packs {packed / 1e6:.0f} MB in {seconds[0] - later:.1f} s")


async def _start(job: Job, peer: Peer, model: Model) -> float:
    """0 where it does not start."""
    async with serving(job.records, [peer], f"{model.name.upper()}: start") as servers:
        return servers[peer].started if peer in servers else 0.0


def _size(model: Model) -> int:
    """Of the checkpoint's weights in bytes."""
    file: Path = hf_folder(model) / "model.safetensors" if model.random else packaged_gguf()
    return file.stat().st_size
