"""Runs one step: the packed tokens of all rows through the model, mixed adapters and all."""

import time
from concurrent.futures import ThreadPoolExecutor, wait

from loradock.engine.adapters.multi_lora import Mixing
from loradock.engine.core import Logits, Row, SamplingParams, Sequence
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.lanes import Decoder, Lanes
from loradock.engine.models.loading import lanes_of
from loradock.engine.runtime.thread_count import ThreadCount
from loradock.engine.runtime.threads import Helpers
from loradock.machine.share import usable_processors

_FEW, _SHARING = 8, 32
"""Steps of fewer rows than `_SHARING` share what they know of the processors; those of at most `_FEW` find it out: on
one of two threads they take half as long again, larger ones twice as long."""


class Runner:
    """Runs steps on one model and its cache; not thread-safe.

    On a CPU a step is split into lanes, groups of rows that go through the model side by side, each on its own share of
    the threads.
    """

    def __init__(self, model: Decoder, cache: KVCache, threads: int | None = None) -> None:
        self.model = model
        self.cache = cache
        self.threads = threads or usable_processors()
        self._helpers = Helpers(self.threads - 1)
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1), "lane", initializer=self._helpers.join)
        self._counts: dict[int, ThreadCount] = {}
        self._lanes: Lanes = lanes_of(model, cache, self.threads)

    @property
    def mixing(self) -> Mixing:
        """The way adapters are applied."""
        return self._lanes.mixing

    def step(self, rows: list[Row]) -> Logits:
        """Compute a step and return the logits of `sum of row.logits` rows, decode rows first as given.

        `rows` must hold their blocks already, single-token rows before chunks. Advances `sequence.computed`, without
        drafts.
        """
        tokens = sum(row.count for row in rows)
        logits = self._small_step(rows, tokens) if tokens < self._lanes.small else self._run(rows, self.threads)
        for row in rows:
            row.sequence.computed += row.count - len(row.drafts)
        return logits

    def _small_step(self, rows: list[Row], tokens: int) -> Logits:
        count = self._count_of(tokens)
        begun = time.perf_counter()
        logits = self._run(rows, count.choose(tokens))
        count.record(tokens, time.perf_counter() - begun)
        return logits

    def _count_of(self, tokens: int) -> ThreadCount:
        # Threads give processors away: all of them are slower only if others want those, whatever the step.
        key = 0 if tokens < _SHARING else tokens
        if key not in self._counts:
            self._counts[key] = ThreadCount(self.threads, begin_with_all=True, few=None if key else _FEW)
        return self._counts[key]

    def _run(self, rows: list[Row], threads: int) -> Logits:
        first, *others = self._lanes.split(rows, threads)
        each = max(1, threads // (1 + len(others)))
        if others:
            self._helpers.keep_off()
        running = [self._pool.submit(lane.run, each) for lane in others]
        try:
            logits = first.run(each)
        finally:
            # What a failed step leaves behind is freed at once: no lane may still be at work on it.
            wait(running)
        return _joined([logits, *(lane.result() for lane in running)])

    def warm_up(self) -> None:
        """Compute something, so that the first request does not wait for kernels to be read or compiled."""
        sequence = Sequence(0, [0, 0], SamplingParams())
        self.cache.allocate(sequence, len(sequence) + 1)
        self.step([Row(sequence, 2, 1)])
        sequence.output.append(0)
        self.step([Row(sequence, 1, 1)])
        self.cache.free(sequence)
        self._lanes.warm_up()


def _joined(lanes: list[Logits]) -> Logits:
    return Logits(
        [part for lane in lanes for part in lane.parts],
        [token for lane in lanes for token in lane.best],
        [finite for lane in lanes for finite in lane.finite],
    )
