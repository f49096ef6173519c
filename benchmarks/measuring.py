"""One case on one running server, as a record of plain figures."""

import math
import statistics
import time
from dataclasses import dataclass
from itertools import islice

from benchmarks.adapters import Adapter
from benchmarks.client import Load, Request, load
from benchmarks.peers.base import Server
from benchmarks.workload import Case, Fleet, chosen, prompts

_WARM_UP = 4
"""Tokens of each request of the warm-up."""

_AIM, _MOST_ROUNDS = 2.0, 4
"""Seconds that a measurement should last at least, and the most requests each client makes for that."""


@dataclass(frozen=True)
class Pace:
    """What the warm-up told: how many requests each client makes, and about how long that takes in seconds."""

    rounds: int
    seconds: float


async def warm_up(server: Server, case: Case, fleet: Fleet) -> Pace:
    """Every adapter once, in a batch as large as the case's."""
    short = Case(case.fleet, case.used, case.clients, _WARM_UP, case.prompt, case.choice)
    warm = await load(server.url, server.headers, _requests(server, short, fleet, 1, -1))
    decoding = max(warm.seconds - _first(warm), 0.001) / (_WARM_UP - 1)
    once = _first(warm) + decoding * (case.tokens - 1)
    rounds = min(_MOST_ROUNDS, max(1, math.ceil(_AIM / once)))
    return Pace(rounds, rounds * once)


def _first(found: Load) -> float:
    return statistics.median(answer.first for answer in found.answers)


async def measure(server: Server, case: Case, fleet: Fleet, rounds: int, repetition: int) -> dict[str, float]:
    requests = _requests(server, case, fleet, rounds, repetition)
    cpu, begun = server.tree.cpu_seconds(), time.time()
    found = await load(server.url, server.headers, requests)
    spent = server.tree.cpu_seconds() - cpu
    memory = server.tree.memory()
    return {
        "at": begun,
        "rounds": rounds,
        "seconds": found.seconds,
        "tokens_per_s": found.tokens / found.seconds,
        "requests_per_s": len(found.answers) / found.seconds,
        "cpu_share": spent / found.seconds,
        "prompt_tokens": statistics.mean(answer.prompt_tokens for answer in found.answers),
        "pss_mib": memory.pss,
        "rss_mib": memory.rss,
        **_times(found),
    }


def _times(found: Load) -> dict[str, float]:
    firsts = [answer.first for answer in found.answers]
    gaps = [gap for answer in found.answers for gap in answer.gaps]
    return {
        "first_ms_p50": 1000 * quantile(firsts, 0.5),
        "first_ms_p99": 1000 * quantile(firsts, 0.99),
        "token_ms_p50": 1000 * quantile(gaps, 0.5),
        "token_ms_p99": 1000 * quantile(gaps, 0.99),
    }


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _requests(server: Server, case: Case, fleet: Fleet, rounds: int, repetition: int) -> list[list[Request]]:
    """Round by round, so that the clients of one round ask different adapters."""
    texts = prompts(case, repetition)
    asked = chosen(case, fleet.adapters, repetition)
    per_round = [
        [_request(server, text, adapter, case.tokens) for text, adapter in islice(zip(texts, asked), case.clients)]  # noqa: B905 - endless
        for _ in range(rounds)
    ]
    return [list(requests) for requests in zip(*per_round, strict=True)]


def _request(server: Server, text: str, adapter: Adapter | None, tokens: int) -> Request:
    return Request(text, tokens, server.extra(adapter))
