"""Sequences of one prompt: the first computes it, the others wait and then share its blocks."""

from loradock.engine.core import Sequence, SequenceState
from loradock.engine.scheduling.wait_queue import WaitingLine


class Siblings:
    """`waiting` is where they are let in, before all who came later."""

    def __init__(self, waiting: WaitingLine) -> None:
        self._waiting = waiting
        self._by_first: dict[int, list[Sequence]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait. May be asked from any thread."""
        return self._count

    def hold(self, first: Sequence, others: list[Sequence]) -> None:
        """Hold others until the first has computed their prompt."""
        self._by_first[first.id] = others
        self._count += len(others)

    def release(self, first: Sequence) -> None:
        """Let those go on that waited for it. Had it left before its prompt was computed, the next one computes it."""
        others = self._by_first.pop(first.id, [])
        self._count -= len(others)
        if others and first.state is SequenceState.FINISHED:
            self._waiting.put_back(others[0])
            self.hold(others[0], others[1:])
            return
        for sequence in others:
            self._waiting.put_back(sequence)

    def drop(self, sequence: Sequence) -> None:
        """Drop a sequence that may be waiting and is not wanted any more."""
        for others in self._by_first.values():
            if sequence in others:
                others.remove(sequence)
                self._count -= 1
