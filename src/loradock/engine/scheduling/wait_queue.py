"""Decides who is next: first come, first served within an adapter, and turns between adapters."""

import sys
from collections import Counter, deque

from loradock.engine.core import Sequence

PATIENCE = 16


class WaitingLine:
    """A queue per adapter and account. The adapter with the fewest running sequences is served first, so a flood for
    one adapter does not hold up the others, and of its accounts the one with the fewest; a queue passed over
    `PATIENCE` times goes first, so nobody starves.

    The last `reserve` places are for queues with nothing running: long answers for one do not fill them all.
    """

    def __init__(self, reserve: int = 0) -> None:
        self._reserve = reserve
        self._queues: dict[tuple[int, str], deque[Sequence]] = {}
        self._passed: Counter[tuple[int, str]] = Counter()
        self._resuming: list[Sequence] = []
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait. May be asked from any thread."""
        return self._count

    def add(self, sequence: Sequence) -> None:
        self._count += 1
        self._queues.setdefault(sequence.owner, deque()).append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """A sequence that had its turn already: before all others, oldest first."""
        self._count += 1
        self._resuming.append(sequence)
        self._resuming.sort(key=lambda s: s.id)

    def next(self, running: list[Sequence], places: int = sys.maxsize) -> Sequence | None:
        """Return whose turn it is, of those who may take one of the free `places`. If it cannot start, nobody starts:
        skipping it would starve large prompts."""
        if self._resuming:
            return self._resuming[0]
        share = Counter(s.owner for s in running)
        adapters = Counter(s.owner[0] for s in running)
        kept = places <= self._reserve
        owners = [o for o in self._queues if not (kept and share[o] and self._passed[o] < PATIENCE)]
        if not owners:
            return None
        owner = min(owners, key=lambda o: (self._passed[o] < PATIENCE, adapters[o[0]], share[o], self._queues[o][0].id))
        return self._queues[owner][0]

    def take(self, sequence: Sequence) -> None:
        """Remove the one that `next` gave."""
        if not self.remove(sequence):
            return
        owner = sequence.owner
        self._passed.pop(owner, None)
        self._passed.update(o for o, queue in self._queues.items() if o != owner and queue[0].id < sequence.id)

    def remove(self, sequence: Sequence) -> bool:
        """Whether it was here."""
        queue = self._queues.get(sequence.owner, ())
        if sequence in self._resuming:
            self._resuming.remove(sequence)
        elif sequence in queue:
            self._leave_queue(sequence)
        else:
            return False
        self._count -= 1
        return True

    def _leave_queue(self, sequence: Sequence) -> None:
        owner = sequence.owner
        self._queues[owner].remove(sequence)
        if not self._queues[owner]:
            del self._queues[owner]
            self._passed.pop(owner, None)
