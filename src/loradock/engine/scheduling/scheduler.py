"""Continuous batching: which sequences take part in the next step, and with how many tokens."""

from loradock.engine.core import Row, Sequence, SequenceState
from loradock.engine.kv_cache.kv import KVCache
from loradock.engine.kv_cache.prefixes import Prefixes
from loradock.engine.scheduling.adapter_slots import Turns
from loradock.engine.scheduling.brief import BriefSteps, Part
from loradock.engine.scheduling.cost import StepCost
from loradock.engine.scheduling.drafting import NgramDrafter
from loradock.engine.scheduling.prefill_budget import Pace
from loradock.engine.scheduling.shares import Crowd, Shares
from loradock.engine.scheduling.siblings import Siblings
from loradock.engine.scheduling.wait_queue import WaitingLine


class Scheduler:
    """Running sequences decode in every step; prompts are prefilled beside them, in chunks that do not hold those up
    for long (`Pace`). Where there are none, drafts of the next tokens are tried (`NgramDrafter`). With more adapters
    running than `slots`, those whose turn it is not keep their blocks and sit the step out (`Turns`).

    When the cache runs out, the youngest running sequence gives its blocks back and is computed again later.
    """

    def __init__(self, cache: KVCache, max_sequences: int, step_tokens: int, slots: int = 32, drafts: int = 0) -> None:
        self.cache = cache
        self.max_sequences = max_sequences
        self.step_tokens = step_tokens
        self.waiting = WaitingLine(reserve=max_sequences // 16)
        self.turns = Turns(slots)
        self.pace = Pace()
        self.shares = Shares()
        self.drafter = NgramDrafter(drafts)
        self.cost = StepCost()
        self.prefixes = Prefixes(cache)
        self._brief = BriefSteps(self.cost)
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._siblings = Siblings(self.waiting)

    @property
    def waiting_count(self) -> int:
        """Sequences that do not run yet, those that wait for their prompt's first one too. May be asked from any
        thread."""
        return len(self.waiting) + len(self._siblings)

    def add(self, sequences: list[Sequence]) -> None:
        """Sequences of one prompt: the first computes it, the others then share its blocks."""
        first, *others = sequences
        self.waiting.add(first)
        if others:
            self._siblings.hold(first, others)

    def prompt_computed(self, sequence: Sequence) -> None:
        """Make a finished prompt's blocks known, and let its siblings in before all who came later."""
        self.cache.remember(sequence)
        self._siblings.release(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or abandoned sequence out; its blocks are free at once."""
        if sequence.state is SequenceState.RUNNING:
            self.running.remove(sequence)
            self.cache.free(sequence)
            self._leave_turns(sequence)
        elif not self.waiting.remove(sequence):
            self._siblings.drop(sequence)
        sequence.state = SequenceState.FINISHED
        self.drafter.forget(sequence)
        self._siblings.release(sequence)

    def schedule(self) -> list[Row]:
        """The next step's rows, single tokens first; empty when there is nothing to do."""
        self._admit()
        # When those whose turn it is had to give their blocks back, those who sat out go on with them.
        while not (rows := self._rows()) and self.running:
            pass
        return rows

    def record(self, rows: list[Row], seconds: float) -> None:
        """Record how long the step took, for those that plan the next ones."""
        drafted = sum(len(row.drafts) for row in rows)
        decoding = sum(row.count == 1 + len(row.drafts) for row in rows)
        prompts = sum(row.count for row in rows) - decoding - drafted
        if not drafted:
            self.pace.record(decoding, prompts, seconds)
        if not prompts:
            self.drafter.record(decoding + drafted, seconds)
        keys = sum(row.count * (row.sequence.computed - (row.count - len(row.drafts)) // 2) for row in rows)
        self.cost.record(sum(row.count for row in rows), keys, seconds)

    def _rows(self) -> list[Row]:
        active = self.turns.choose(self.running)
        running = [s for s in self.running if s.adapter is None or s.adapter.load_id in active]
        decoding = [s for s in running if len(s) - s.computed == 1]
        prefilling = [s for s in running if len(s) - s.computed > 1]
        self.prefixes.fill(prefilling)
        crowd = self.shares.crowd(decoding, prefilling)
        part = self._part(decoding, prefilling, crowd)
        rows = [row for s in part.decoding if (row := self._row(s, 1))]
        shares = self.shares.divide(part.tokens, part.prefilling)
        for sequence, count in zip(part.prefilling, shares, strict=True):
            if count > 0 and (row := self._row(sequence, count)):
                rows.append(row)
        rows = [row for row in rows if row.sequence.state is SequenceState.RUNNING]
        if not prefilling and not crowd.others:
            self._draft(rows)
        return sorted(rows, key=_place)

    def _part(self, decoding: list[Sequence], prefilling: list[Sequence], crowd: Crowd) -> Part:
        """Return which of those whose turn it is take part in the step."""
        if crowd.others:
            return self._brief.part(decoding, prefilling, crowd, self.step_tokens)
        tokens = self.pace.prompt_tokens(len(decoding), len(prefilling), self.step_tokens)
        return Part(decoding, prefilling, tokens)

    def _draft(self, rows: list[Row]) -> None:
        """Adds draft tokens to the rows of sequences that have generated something. Preempts nobody."""
        speaking = [row for row in rows if row.sequence.output]
        for row, drafts in zip(speaking, self.drafter.propose([row.sequence for row in speaking]), strict=True):
            if drafts and self.cache.allocate(row.sequence, len(row.sequence) + len(drafts)):
                row.drafts = drafts
                row.count = row.logits = 1 + len(drafts)

    def _admit(self) -> None:
        while (places := self.max_sequences - len(self.running)) > 0:
            sequence = self.waiting.next(self.running, places)
            if sequence is None:
                return
            self.prefixes.match(sequence)
            # One spare block each for those already running, lest they be thrown out at once.
            spare = len(self.running)
            if self.cache.missing(sequence, len(sequence) + 1) + spare > self.cache.available:
                self.cache.free(sequence)
                return
            self.cache.allocate(sequence, len(sequence) + 1)
            self.waiting.take(sequence)
            sequence.state = SequenceState.RUNNING
            self.running.append(sequence)
            self.prefixes.admitted(sequence)
            self.shares.admitted(sequence)

    def _row(self, sequence: Sequence, count: int) -> Row | None:
        if sequence.state is not SequenceState.RUNNING or not self._ensure(sequence, sequence.computed + count):
            return None
        if sequence.params.prompt_logprobs is not None and not sequence.output:
            return Row(sequence, count, count)
        return Row(sequence, count, int(sequence.computed + count == len(sequence)))

    def _ensure(self, sequence: Sequence, tokens: int) -> bool:
        while not self.cache.allocate(sequence, tokens):
            youngest = max(self.running, key=lambda s: s.id)
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.cache.free(sequence)
        sequence.state = SequenceState.WAITING
        self.waiting.put_back(sequence)
        self.preemptions += 1

    def _leave_turns(self, sequence: Sequence) -> None:
        if sequence.adapter and all(other.adapter is not sequence.adapter for other in self.running):
            self.turns.leave(sequence.adapter.load_id)


def _place(row: Row) -> tuple[bool, int]:
    """Single tokens first, those of an adapter together: its matrices are then read once for all of them."""
    adapter = row.sequence.adapter
    return row.count > 1, adapter.load_id if adapter and row.count == 1 else 0
