"""Time to first token of one adapter beside a flood of long prompts for another, with the scheduler alone.

    python benchmarks/flood_schedule.py

Nothing is computed: a step takes as long as its tokens and keys took SmolLM2 in bf16 on two cores with AVX-512, so what
else runs on the machine does not matter. The same load as in long_prompts.py.
"""

import argparse
import itertools
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from benchmarks.measuring import quantile
from loradock.checkpoints.architecture import Architecture
from loradock.engine.core import Row, SamplingParams, Sequence
from loradock.engine.dtypes import Dtype
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.engine.scheduling.shares import Shares

SHAPE = Architecture("llama", 10, 2, 2, 1, 1, 1, 2, 1e4, 1e-5, 4096)
WEIGHTS, TOKEN, KEY = 0.0042, 0.0004, 1.05e-6
LIGHT, LONG = 1, 2


@dataclass
class Asked:
    """When a request came, and when it had each of its tokens."""

    at: float
    tokens: list[float]


class Played:
    def __init__(self, quiet: float, clients: int, prompt: int) -> None:
        self.now, self._quiet, self._clients, self._prompt = 0.0, quiet, clients, prompt
        self._scheduler = Scheduler(KVCache(SHAPE, 5000, Dtype.FLOAT32), 64, 256)
        self._scheduler.shares = Shares(lambda: self.now)
        self._ids, self._dice, self._next = itertools.count(1), random.Random(1), 0.5
        self.light: dict[int, Asked] = {}
        self.computed = 0

    def play(self, seconds: float) -> None:
        flooding = False
        while self.now < seconds:
            while self._next <= self.now:
                self.light[self._ask(LIGHT, 14)] = Asked(self._next, [])
                self._next += 1 + 0.1 * self._dice.random()
            if not flooding and self.now >= self._quiet:
                flooding = True
                for _ in range(self._clients):
                    self._ask(LONG, self._prompt)
            rows = self._scheduler.schedule()
            if rows:
                self._step(rows)
            else:
                self.now = self._next if flooding else min(self._next, self._quiet)

    def _ask(self, adapter: int, length: int) -> int:
        prompt = [self._dice.randrange(10) for _ in range(length)]
        owner = SimpleNamespace(load_id=adapter, path=Path())
        sequence = Sequence(next(self._ids), prompt, SamplingParams(max_tokens=16), owner)
        self._scheduler.add([sequence])
        return sequence.id

    def _step(self, rows: list[Row]) -> None:
        tokens = sum(row.count for row in rows)
        keys = sum(row.count * (row.sequence.computed + row.count // 2) for row in rows)
        took = (WEIGHTS + TOKEN * tokens + KEY * keys) * self._dice.uniform(0.97, 1.1)
        self.now += took
        decoding = sum(row.count == 1 for row in rows)
        self._scheduler.pace.record(decoding, tokens - decoding, took)
        self._scheduler.cost.record(tokens, keys, took)
        for row in rows:
            self._advance(row)

    def _advance(self, row: Row) -> None:
        sequence = row.sequence
        sequence.computed += row.count
        if not sequence.output and sequence.owner[0] == LONG:
            self.computed += row.count
        if sequence.computed < len(sequence):
            return
        if not sequence.output:
            self._scheduler.prompt_computed(sequence)
        sequence.output.append(1)
        if sequence.id in self.light:
            self.light[sequence.id].tokens.append(self.now)
        if len(sequence.output) == sequence.params.max_tokens:
            self._scheduler.remove(sequence)
            if sequence.owner[0] == LONG:
                self._ask(LONG, self._prompt)


def show(what: str, some: list[Asked]) -> None:
    some = [asked for asked in some if len(asked.tokens) == 16]
    for number, name in ((0, "first token"), (1, "second"), (15, "last")):
        times = [1000 * (asked.tokens[number] - asked.at) for asked in some]
        print(f"{what:<8} {name:<12} p50 {statistics.median(times):.0f} ms, p99 {quantile(times, 0.99):.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--prompt", type=int, default=3000, help="tokens")
    parser.add_argument("--quiet", type=float, default=20, help="seconds without the long prompts")
    parser.add_argument("--seconds", type=float, default=200, help="in all")
    arguments = parser.parse_args()
    played = Played(arguments.quiet, arguments.clients, arguments.prompt)
    played.play(arguments.seconds)
    show("alone", [asked for asked in played.light.values() if asked.at < arguments.quiet - 1])
    show("beside", [asked for asked in played.light.values() if asked.at >= arguments.quiet])
    print(f"long prompts: {played.computed / (arguments.seconds - arguments.quiet):.0f} tokens/s")
