"""Continuous batching: which sequences take part in the next step, and with how many tokens."""

from collections import deque

from loradock.engine.core import Row, Sequence, SequenceState
from loradock.engine.kv import KVCache


class Scheduler:
    """First come, first served; running sequences decode every step, prompts are prefilled in chunks beside them.

    When the cache runs out, the youngest running sequence gives its blocks back and starts over later.
    """

    def __init__(self, cache: KVCache, max_sequences: int, max_tokens: int = 512) -> None:
        self.cache, self.max_sequences, self.max_tokens = cache, max_sequences, max_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or abandoned sequence out, its blocks free at once."""
        if sequence.state is SequenceState.RUNNING:
            self.running.remove(sequence)
            self.cache.free(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        sequence.state = SequenceState.FINISHED

    def schedule(self) -> list[Row]:
        """The next step's rows, single tokens first; empty when there is nothing to do."""
        self._admit()
        budget = self.max_tokens
        singles: list[Row] = []
        chunks: list[Row] = []
        for sequence in list(self.running):
            if budget == 0 or sequence.state is not SequenceState.RUNNING:
                continue
            count = min(len(sequence) - sequence.computed, budget)
            if not self._ensure(sequence, sequence.computed + count):
                continue
            budget -= count
            (singles if count == 1 else chunks).append(_row(sequence, count))
        # A row planned before a later one ran out of blocks may have been preempted since.
        return [row for row in singles + chunks if row.sequence.state is SequenceState.RUNNING]

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            if sequence.params.prompt_logprobs is None:
                self.cache.match_prefix(sequence)
            if self.cache.missing(sequence, len(sequence) + 1) > self.cache.available:
                self.cache.free(sequence)
                return
            self.cache.allocate(sequence, len(sequence) + 1)
            self.waiting.popleft()
            sequence.state = SequenceState.RUNNING
            self.running.append(sequence)

    def _ensure(self, sequence: Sequence, tokens: int) -> bool:
        while not self.cache.allocate(sequence, tokens):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.cache.free(sequence)
        sequence.state = SequenceState.WAITING
        self.waiting.appendleft(sequence)


def _row(sequence: Sequence, count: int) -> Row:
    if sequence.params.prompt_logprobs is not None and not sequence.output:
        return Row(sequence, count, count)
    return Row(sequence, count, int(sequence.computed + count == len(sequence)))
