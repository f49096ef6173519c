"""Long prompts, then decoding behind them: one client, and several at once.

A measurement sends each client's prompt for a single token, and then the same prompts again, which every server knows
by then, for some more: so the speed of prompts is one figure, and the speed of tokens behind them another, whatever
order a server computes them in.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import Answer, Failed, Request, load
from benchmarks.engines import available
from benchmarks.models import Model
from benchmarks.peers.base import Peer, Server, Setting
from benchmarks.room import Pressure
from benchmarks.sizes.serving import FAILURES, note, serving, that_fit
from benchmarks.sizes.widths import Job
from benchmarks.workload import WORDS

_TOKENS, _LEAST = 48, 8
"""Tokens of an answer; and how many of each stream at least must have come while all streams ran."""
_SLOW = 45.0
"""Seconds: what takes longer is measured once."""


@dataclass(frozen=True)
class Point:
    model: Model
    context: int
    clients: int

    @property
    def name(self) -> str:
        return f"{self.model.name.upper()}: prompts of {self.context}, {self.clients} concurrent"


def setting(model: Model, context: int, clients: int) -> Setting:
    """With room for prompts that come out a little longer."""
    return Setting(model, clients, min(model.context, context + context // 50 + 2 * _TOKENS))


async def add_contexts(job: Job) -> bool:
    """False when the time was up before all was measured."""
    plan = job.plan
    for model in plan.models:
        for context in plan.contexts:
            points = [Point(model, context, clients) for clients in plan.clients if context + _TOKENS < model.context]
            peers = plan.peers_of(setting(model, context, max(plan.clients)))
            todo = [peer for peer in peers if any(_wanting(job, peer, point) for point in points)]
            if not points or not todo:
                continue
            what = f"{model.name.upper()}: prompts of {context}"
            for together in that_fit(job, available(todo, job.records), what):
                if not job.budget.allows():
                    return False
                async with serving(job.records, together, what) as servers:
                    await _take_turns(job, servers, points)
    return job.budget.allows()


def _wanting(job: Job, peer: Peer, point: Point) -> int:
    """How many repetitions are still to be made."""
    done = job.records.where(kind="context", peer=peer.name, case=point.name)
    slow = any(row["seconds"] > _SLOW for row in done)
    return (1 if slow else job.plan.repetitions) - len(done)


async def _take_turns(job: Job, servers: dict[Peer, Server], points: Sequence[Point]) -> None:
    failed: set[tuple[Peer, Point]] = set()
    for turn in range(job.plan.repetitions):
        for point in points:
            for peer, server in servers.items():
                wanted = _wanting(job, peer, point) > job.plan.repetitions - 1 - turn
                if wanted and (peer, point) not in failed and job.budget.allows() and not _too_long(job, peer, point):
                    try:
                        async with asyncio.timeout(job.plan.patience):
                            await _one(job, peer, server, point)
                    except FAILURES as reason:
                        failed.add((peer, point))
                        note(job.records, peer, f"{point.name}: {reason!r}")


def _too_long(job: Job, peer: Peer, point: Point) -> bool:
    """By what one client alone took."""
    alone = job.records.where(kind="context", peer=peer.name, case=Point(point.model, point.context, 1).name)
    seconds = point.clients * min((row["seconds"] for row in alone), default=0.0)
    if point.clients == 1 or seconds <= job.plan.patience:
        return False
    note(job.records, peer, f"{point.name}: it would take about {seconds:.0f} s (--patience {job.plan.patience:.0f})")
    return True


async def _one(job: Job, peer: Peer, server: Server, point: Point) -> None:
    pressure = Pressure(time.monotonic)
    repetition = len(job.records.where(kind="context", peer=peer.name, case=point.name))
    found = await measure(server, point, repetition)
    memory = await asyncio.to_thread(server.tree.memory)
    job.records.add(
        kind="context",
        peer=peer.name,
        case=point.name,
        model=point.model.name,
        context=point.context,
        clients=point.clients,
        pressed=pressure.pressed(),
        rss_mib=memory.rss,
        peak_mib=memory.peak,
        **found,
    )
    print(
        f"{point.name:45s} {peer.title:32s} {found['prompt_per_s']:8.1f} tokens/s, then {found['decode_per_s']:.1f}",
        flush=True,
    )


async def measure(server: Server, point: Point, repetition: int) -> dict[str, float]:
    texts = prompts(point, repetition)
    cpu, begun = server.tree.cpu_seconds(), time.perf_counter()
    first = await load(server.url, server.headers, [[Request(text, 1, server.extra(None))] for text in texts])
    requests = [[Request(text, _TOKENS, server.extra(None))] for text in texts]
    second = await load(server.url, server.headers, requests)
    seconds = time.perf_counter() - begun
    tokens = sum(answer.prompt_tokens for answer in first.answers)
    return {
        "seconds": seconds,
        "cpu_share": (server.tree.cpu_seconds() - cpu) / seconds,
        "prompt_tokens": tokens / len(first.answers),
        "prompt_per_s": tokens / first.seconds,
        "again_s": max(answer.first for answer in second.answers),
        "decode_per_s": decode_rate(second.answers),
    }


def decode_rate(answers: Sequence[Answer]) -> float:
    """Tokens per second while all streams ran: from the last one's first event to the first one's last."""
    begun, ended = max(answer.events[0] for answer in answers), min(answer.events[-1] for answer in answers)
    counts = [sum(begun < moment <= ended for moment in answer.events) for answer in answers]
    if min(counts) < _LEAST:
        raise Failed(f"the streams ran together for {min(counts)} tokens only")
    return sum(counts) / (ended - begun)


def prompts(point: Point, repetition: int) -> list[str]:
    """The same for every server; no two begin alike."""
    dice = random.Random(f"{point.name} {repetition}")
    return [
        f"{number} {dice.choice(WORDS)} {repetition} {' '.join(dice.choices(WORDS, k=point.context - 6))}."
        for number in range(point.clients)
    ]
