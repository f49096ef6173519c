"""The goals that Loradock's speed is held to, and how near each is."""

import statistics
from collections.abc import Iterator

from benchmarks.records import Records

BASE_1, ONE_1 = "base, 1 concurrent", "1 adapter, rank 8, 1 concurrent"
BASE_32, EIGHT_32 = "base, 32 concurrent", "8 adapters, rank 8, 32 concurrent"
MANY_32 = "32 adapters, rank 8, 32 concurrent"
BESIDE_8, BESIDE_32 = "base beside 8xr8, 32 concurrent", "base beside 32xr8, 32 concurrent"
_16_BIT = ("llamacpp-f16", "llamacpp-bf16")
_LLAMA = ("llamacpp-q4_1", "llamacpp-q8_0", *_16_BIT)
_FASTEST = ("loradock", "engine", "engine-int8", "engine-int4")


class Found:
    """Medians of what was measured; None for what was not."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def rate(self, peer: str, case: str) -> float | None:
        return self.middle("tokens_per_s", kind="load", peer=peer, case=case)

    def best(self, peers: tuple[str, ...], case: str) -> float | None:
        return max((rate for peer in peers if (rate := self.rate(peer, case)) is not None), default=None)

    def middle(self, column: str, **wanted: object) -> float | None:
        values = self._records.values(column, **wanted)
        return statistics.median(values) if values else None


def targets(records: Records) -> str:
    lines = ["| goal | measured | |", "|---|---|---|"]
    for goal, value, form, reached in _goals(Found(records)):
        if value is not None:
            lines.append(f"| {goal} | {format(value, form)} | {'reached' if reached else 'not reached'} |")
    return "\n".join(lines) if len(lines) > 2 else ""


Goal = tuple[str, float | None, str, bool]


def _least(words: str, value: float | None, goal: float, form: str = ".2f") -> Goal:
    return f"{words} ≥ {goal:g}", value, form, value is not None and value >= goal


def _most(words: str, value: float | None, goal: float, form: str = ".2f") -> Goal:
    return f"{words} ≤ {goal:g}", value, form, value is not None and value <= goal


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _goals(found: Found) -> Iterator[Goal]:
    ours = found.rate("loradock", EIGHT_32)
    mixed = "8 adapters mixed, 32 concurrent, end to end:"
    yield _least(f"{mixed} times vLLM", _over(ours, found.rate("vllm", EIGHT_32)), 12, ".1f")
    yield _least(f"{mixed} times the best llama.cpp", _over(ours, found.best(_LLAMA, EIGHT_32)), 8, ".1f")
    yield _least(f"{mixed} times transformers + PEFT", _over(ours, found.rate("peft", EIGHT_32)), 3, ".1f")
    roofline = found.middle("tokens_per_s", kind="roofline")
    yield _least(f"{mixed} share of the bf16 GEMM roofline", _over(ours, roofline), 0.5)
    yield _least("8 adapters mixed: share of base throughput", _over(ours, found.rate("loradock", BESIDE_8)), 0.88)
    many = _over(found.rate("loradock", MANY_32), found.rate("loradock", BESIDE_32))
    yield _least("32 adapters mixed: share of base throughput", many, 0.75)
    yield from _alone(found)
    yield from _attaching(found)
    start = found.middle("seconds", kind="start", peer="engine", fleet="8xr8")
    yield _most("engine start to first token, s", start, 5)
    memory = found.middle("rss_mib", kind="start", peer="engine", fleet="8xr8")
    yield _most("engine's resident memory with 8 adapters, MiB", memory, 1200, ".0f")
    memory = found.middle("rss_mib", kind="load", peer="engine", case=EIGHT_32)
    yield _most("the same after 32 concurrent requests, MiB", memory, 1200, ".0f")
    yield from _gateway(found)


def _alone(found: Found) -> Iterator[Goal]:
    for who, case in (("base", BASE_1), ("one adapter", ONE_1)):
        ours = max(filter(None, (found.rate(peer, case) for peer in ("loradock", "engine"))), default=None)
        yield _least(f"one request alone, {who}: times llama.cpp, 16 bits", _over(ours, found.best(_16_BIT, case)), 1.5)
        int8 = found.rate("engine-int8", case)
        yield _least(
            f"one request alone, {who}: times llama.cpp, 8 bits", _over(int8, found.rate("llamacpp-q8_0", case)), 1.5
        )
        fastest = found.best(_FASTEST, case)
        yield _least(
            f"one request alone, {who}: fastest mode, times llama.cpp Q4_1",
            _over(fastest, found.rate("llamacpp-q4_1", case)),
            1,
        )


def _attaching(found: Found) -> Iterator[Goal]:
    for share, goal in (("p50", 100), ("p99", 250)):
        value = found.middle(f"first_ms_{share}", kind="attach", peer="loradock")
        yield _most(f"attach to first token {share}, ms", value, goal, ".0f")
    busy = found.middle("attaching_gap_ms_p99", kind="attach", peer="loradock")
    idle = found.middle("idle_gap_ms_p99", kind="attach", peer="loradock")
    yield _most("other streams' p99 between tokens while 100 adapters are attached, times idle", _over(busy, idle), 1.1)


def _gateway(found: Found) -> Iterator[Goal]:
    def of(peer: str, column: str) -> float | None:
        return found.middle(column, kind="gateway", peer=peer)

    plain, direct = of("loradock", "plain_ms_p50"), of("direct", "plain_ms_p50")
    added = plain - direct if plain is not None and direct is not None else None
    yield _most("gateway: added p50 at concurrency 1, ms", added, 0.3, ".3f")
    for words, column in (("request", "plain_cpu_ms"), ("streamed answer", "paced_stream_cpu_ms")):
        ours = of("loradock", column)
        rust, python = of("vllm-router-cache-aware", column), of("litellm", column)
        yield _most(f"gateway: CPU per {words}, times vllm-router (cache-aware)", _over(ours, rust), 1.5)
        yield _least(f"gateway: CPU per {words}, LiteLLM's : ours", _over(python, ours), 30, ".0f")
