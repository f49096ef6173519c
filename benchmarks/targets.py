"""The goals that Loradock's speed is held to, and how near each is."""

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.records import Records

BASE_1, ONE_1 = "base, 1 concurrent", "1 adapter, rank 8, 1 concurrent"
BASE_32, EIGHT_32 = "base, 32 concurrent", "8 adapters, rank 8, 32 concurrent"
MANY_32 = "32 adapters, rank 8, 32 concurrent"
BESIDE_8, BESIDE_32 = "base beside 8xr8, 32 concurrent", "base beside 32xr8, 32 concurrent"
LORADOCK = {"loradock": "bf16", "loradock-int8": "int8", "loradock-int4": "int4"}
"""What is measured through the gateway, and in how many bits it keeps the weights."""
_ENGINE = {"engine": "bf16", "engine-int8": "int8", "engine-int4": "int4"}
_16_BIT = {"llamacpp-f16": "F16", "llamacpp-bf16": "BF16"}
_4_BIT = {"llamacpp-q4_1": "Q4_1"}
_LLAMA = {**_4_BIT, "llamacpp-q8_0": "Q8_0", **_16_BIT}
_BITS = {**LORADOCK, **_ENGINE}


class Found:
    """Medians of what was measured; None for what was not."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.pytorch_type = records.facts.get("pytorch_type", "bfloat16")

    def rate(self, peer: str, case: str) -> float | None:
        return self.middle("tokens_per_s", kind="load", peer=peer, case=case)

    def best(self, peers: Sequence[str], case: str) -> str:
        """The fastest of them in this case; the first where none was measured."""
        return max(peers, key=lambda peer: self.rate(peer, case) or 0.0)

    def middle(self, column: str, **wanted: object) -> float | None:
        values = self._records.values(column, **wanted)
        return statistics.median(values) if values else None

    def most(self, column: str, **wanted: object) -> float | None:
        return max(self._records.values(column, **wanted), default=None)


def fastest(records: Records, case: str) -> str:
    """Which of ours, all through the gateway."""
    return Found(records).best(tuple(LORADOCK), case)


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
    best = found.best(tuple(LORADOCK), EIGHT_32)
    yield from _mixed(found, "loradock", "Loradock in bf16")
    if best != "loradock":
        yield from _mixed(found, best, f"Loradock's fastest, {LORADOCK[best]}")
    yield from _alone(found)
    yield from _attaching(found)
    start = found.middle("seconds", kind="start", peer="engine", fleet="8xr8")
    yield _most("engine start to first token, s", start, 5)
    for peer, bits in _ENGINE.items():
        memory = found.middle("rss_mib", kind="start", peer=peer, fleet="8xr8")
        yield _most(f"engine's resident memory with 8 adapters, {bits}, MiB", memory, 1200, ".0f")
    memory = found.middle("rss_mib", kind="load", peer="engine", case=EIGHT_32)
    yield _most("engine's resident memory with 8 adapters after 32 concurrent requests, bf16, MiB", memory, 1200, ".0f")
    yield from _gateway(found)


def _mixed(found: Found, peer: str, who: str) -> Iterator[Goal]:
    ours, mixed = found.rate(peer, EIGHT_32), "8 adapters mixed, 32 concurrent, end to end"
    llama = found.best(tuple(_LLAMA), EIGHT_32)
    yield _least(
        f"{mixed}: {who}, times vLLM ({found.pytorch_type})", _over(ours, found.rate("vllm", EIGHT_32)), 12, ".1f"
    )
    times = _over(ours, found.rate(llama, EIGHT_32))
    yield _least(f"{mixed}: {who}, times the best llama.cpp ({_LLAMA[llama]})", times, 8, ".1f")
    times = _over(ours, found.rate("peft", EIGHT_32))
    yield _least(f"{mixed}: {who}, times transformers + PEFT ({found.pytorch_type})", times, 3, ".1f")
    roofline = found.most("tokens_per_s", kind="roofline")
    yield _least(f"{mixed}: {who}, share of the bf16 GEMM roofline", _over(ours, roofline), 0.5)
    share = _over(ours, found.rate(peer, BESIDE_8))
    yield _least(f"8 adapters mixed, 32 concurrent: {who}, share of its own base throughput", share, 0.88)
    share = _over(found.rate(peer, MANY_32), found.rate(peer, BESIDE_32))
    yield _least(f"32 adapters mixed, 32 concurrent: {who}, share of its own base throughput", share, 0.75)


def _alone(found: Found) -> Iterator[Goal]:
    """Engine against engine, and once more with all that the gateway does on our side: as it comes, against the best
    of llama.cpp with and without drafts; and without drafts on both sides."""
    for who, case in (("base", BASE_1), ("one adapter", ONE_1)):
        for drafts in (True, False):
            for theirs, bits, goal in ((_16_BIT, "bf16", 1.5), (("llamacpp-q8_0",), "int8", 1.5), (_4_BIT, "", 1)):
                rival = found.best([name for peer in theirs for name in _with_drafts(peer, drafts)], case)
                for peer, how in (("engine", "engine alone"), ("loradock", "through the gateway")):
                    if drafts or peer == "engine":
                        ours = found.best(_modes(peer, bits, drafts=drafts), case)
                        yield _one_alone(found, f"{who}, {how}", case, ours, rival, goal)


def _with_drafts(peer: str, drafts: bool) -> tuple[str, ...]:
    return (peer, f"{peer}-drafts") if drafts else (peer,)


def _modes(peer: str, bits: str, *, drafts: bool) -> list[str]:
    """Our peers of so many bits, of any where none are named."""
    end = "" if drafts else "-plain"
    return [f"{peer}-{mode}".removesuffix("-bf16") + end for mode in ([bits] if bits else ["bf16", "int8", "int4"])]


def _one_alone(found: Found, who: str, case: str, ours: str, rival: str, goal: float) -> Goal:
    plain = ", no drafts on either side" if ours.endswith("-plain") else ""
    kind = "fastest mode, " if goal == 1 else ""
    against = _LLAMA[rival.removesuffix("-drafts")] + (" with drafts" if rival.endswith("-drafts") else "")
    bits = _BITS[ours.removesuffix("-plain")]
    words = f"one request alone{plain}, {who}: {kind}{bits}, times llama.cpp {against}"
    return _least(words, _over(found.rate(ours, case), found.rate(rival, case)), goal)


def _attaching(found: Found) -> Iterator[Goal]:
    for share, goal in (("p50", 100), ("p99", 250)):
        value = found.middle(f"first_ms_{share}", kind="attach", peer="loradock")
        yield _most(f"attach to first token {share}, ms", value, goal, ".0f")
    idle = found.middle("idle_gap_ms_p99", kind="attach", peer="loradock")
    count = found.middle("count", kind="attach", peer="loradock") or 0
    for column, asked in (("only_attaching_gap_ms", ""), ("attaching_gap_ms", " and asked at once")):
        busy = found.middle(f"{column}_p99", kind="attach", peer="loradock")
        words = f"other streams' p99 between tokens while {count:.0f} adapters are attached in a row{asked}, times idle"
        yield _most(words, _over(busy, idle), 1.1)


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
