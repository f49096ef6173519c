"""Runs one step: the packed tokens of all rows through the model, mixed adapters and all."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import torch

from loradock.engine.adapters.multi_lora import Mixing
from loradock.engine.core import Logits, Row, SamplingParams, Sequence
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.models.compiled_decoder import CompiledDecoder
from loradock.engine.models.compiled_lanes import CompiledLanes
from loradock.engine.models.lanes import DecoderLanes, Lanes
from loradock.engine.models.model import Decoder
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

    def __init__(self, model: Decoder | CompiledDecoder, cache: KVCache, threads: int | None = None) -> None:
        self.model = model
        self.cache = cache
        self.threads = threads or usable_processors()
        self._helpers = Helpers(self.threads - 1)
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1), "lane", initializer=self._helpers.join)
        self._counts: dict[int, ThreadCount] = {}
        self._beside = 0
        self._counting = threading.Lock()
        self._lanes: Lanes
        if isinstance(model, CompiledDecoder):
            self._lanes = CompiledLanes(model, cache, self.threads)
        else:
            self._lanes = DecoderLanes(model, cache)

    @property
    def mixing(self) -> Mixing:
        """The way adapters are applied."""
        return self._lanes.mixing

    @torch.inference_mode()
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
        shares = self._lanes.share_processors
        if self._beside and not shares:
            return self._run(rows, max(1, self.threads - self._beside))
        count = self._count_of(tokens)
        begun = time.perf_counter()
        logits = self._run(rows, count.choose(tokens))
        count.record(tokens, time.perf_counter() - begun)
        return logits

    def _count_of(self, tokens: int) -> ThreadCount:
        # Where threads give processors away, all of them are slower only if others want those, whatever the step.
        shares = self._lanes.share_processors
        key = 0 if shares and tokens < _SHARING else tokens
        if key not in self._counts:
            self._counts[key] = ThreadCount(self.threads, begin_with_all=shares, few=None if key else _FEW)
        return self._counts[key]

    def _run(self, rows: list[Row], threads: int) -> Logits:
        first, *others = self._lanes.split(rows, threads)
        each = max(1, threads // (1 + len(others)))
        # OpenMP's threads would go where the one that starts them may go, and stay there.
        if others and self._lanes.share_processors:
            self._helpers.keep_off()
        running = [self._pool.submit(lane.run, each) for lane in others]
        try:
            logits = first.run(each)
        finally:
            # What a failed step leaves behind is freed at once: no lane may still be at work on it.
            wait(running)
        return _joined([logits, *(lane.result() for lane in running)])

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Around long work on a thread of its own. Where OpenMP's threads share a product, small steps leave a
        processor to it meanwhile: they would wait for the one that has to share its processor, and be slower together
        than the rest alone.
        """
        with self._counting:
            self._beside += 1
        try:
            yield
        finally:
            with self._counting:
                self._beside -= 1

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
