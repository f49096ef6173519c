"""Decides which adapters take part in a step, when more have running sequences than there are slots."""

from collections.abc import Iterable

from loradock.engine.core import Sequence

QUANTUM = 8
"""Steps an adapter keeps its slot for while others wait; each change of the set costs copying its matrices."""


class Turns:
    """Time slices. Of n adapters with running sequences `slots` take part in a step, the others sit it out.

    Who waits gets in: first the overdue, then those who owe somebody a first token, then the rest, the longest
    waiting first. A holder leaves after `QUANTUM` steps if anybody waits, the longest served first; for an overdue
    or first-token adapter already after one step, unless it came in overdue or owes a first token itself.

    The bound: one is overdue after twice the fair round, 2 * QUANTUM * ceil(n / slots) steps. From then on only
    those who wait longer are before it, at most n - 1, and every slot is freed within QUANTUM steps. So nobody
    sits out more than 3 * QUANTUM * ceil(n / slots) steps in a row, whoever else comes and goes.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._step = 0
        self._since: dict[int, int] = {}
        self._came: dict[int, int] = {}
        self._protected: set[int] = set()

    @property
    def active(self) -> frozenset[int]:
        """Load ids of the adapters in a slot. May be asked from any thread."""
        return frozenset(self._since.copy())

    def leave(self, owner: int) -> None:
        """The adapter has no running sequence any more."""
        for part in (self._since, self._came):
            part.pop(owner, None)
        self._protected.discard(owner)

    def choose(self, running: Iterable[Sequence]) -> set[int]:
        """The load ids that take part in the next step."""
        self._step += 1
        due = self._note(running)
        late = self._step - 2 * QUANTUM * -(-len(due) // self.slots)
        waiting = sorted(self._came, key=lambda o: (self._came[o] > late, self._came[o] > late and not due[o]))
        for owner in waiting:
            if not self._admit(owner, due, urgent=due[owner] or self._came[owner] <= late):
                break
            if self._came.pop(owner) <= late:
                self._protected.add(owner)
            self._since[owner] = self._step
        return set(self._since)

    def _note(self, running: Iterable[Sequence]) -> dict[int, bool]:
        """Owner → whether it owes a first token; who is new joins the end of the line."""
        due: dict[int, bool] = {}
        for sequence in running:
            if sequence.adapter is not None:
                owner = sequence.adapter.load_id
                due[owner] = due.get(owner, False) or not sequence.output
        for owner in [o for o in (*self._since, *self._came) if o not in due]:
            self.leave(owner)
        for owner in due:
            if owner not in self._since:
                self._came.setdefault(owner, self._step)
        return due

    def _admit(self, owner: int, due: dict[int, bool], *, urgent: bool) -> bool:
        """Make room for one; False when no holder has to leave yet."""
        if len(self._since) < self.slots:
            return True
        leaving = next((o for o in self._since if self._may_leave(o, due, urgent=urgent)), None)
        if leaving is None:
            return False
        self.leave(leaving)
        self._came[leaving] = self._step
        return True

    def _may_leave(self, owner: int, due: dict[int, bool], *, urgent: bool) -> bool:
        served = self._step - self._since[owner]
        kept = due[owner] or owner in self._protected
        return served >= QUANTUM or (urgent and served >= 1 and not kept)
