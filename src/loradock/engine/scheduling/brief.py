"""Steps while somebody floods and others may come: brief, so that the next one begins soon."""

from dataclasses import dataclass

from loradock.engine.core import Sequence
from loradock.engine.scheduling.cost import StepCost
from loradock.engine.scheduling.prefill_budget import LEAST, STALL
from loradock.engine.scheduling.shares import Crowd

BRIEF = 0.016
"""Seconds that such a step should take; twice as long as reading the weights takes where that is more, as shorter ones
would hardly do anything else."""
BEGINNING = 3
"""Tokens after which there is something to be read in nearly any answer: one may be part of a character."""
_IN_A_ROW = 3


@dataclass(frozen=True)
class Part:
    """The sequences that take part in a step, and how many tokens of prompts it may hold."""

    decoding: list[Sequence]
    prefilling: list[Sequence]
    tokens: int


class BriefSteps:
    """A flood sits out the steps in which somebody else's answer begins, but only so many in a row, and takes turns at
    decoding where its rows together would take too long: each of them reads all keys of a long prompt.
    """

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self._sat_out = 0
        self._last = 0

    def part(self, decoding: list[Sequence], prefilling: list[Sequence], crowd: Crowd, most: int) -> Part:
        """Return which of these sequences take part in a step of at most `most` tokens."""
        heavy = [s for s in decoding if s.owner in crowd.heavy]
        light = [s for s in decoding if s.owner not in crowd.heavy]
        begins = crowd.light > 0 or any(len(s.output) < BEGINNING for s in light)
        self._sat_out = self._sat_out + 1 if begins and self._sat_out < _IN_A_ROW else 0
        if self._sat_out:
            prompts = [s for s in prefilling if s.owner not in crowd.heavy]
            return Part(light, prompts, min(most - len(light), self._usual(light)))
        some = light + self._some(light, heavy, alone=not prefilling)
        return Part(some, prefilling, min(most - len(some), self._brief(some, prefilling, crowd)))

    def _some(self, light: list[Sequence], heavy: list[Sequence], *, alone: bool) -> list[Sequence]:
        """Return at least one of the flood's decoding rows, in turns; beside its prompts they get half of the time."""
        spent = self._seconds(light)
        room = self._whole() - spent
        room = room if alone else room / 2
        chosen: list[Sequence] = []
        for sequence in sorted(heavy, key=lambda s: (s.id <= self._last, s.id)):
            room -= self._cost.more(len(sequence))
            if chosen and room < 0:
                break
            chosen.append(sequence)
        self._last = chosen[-1].id if chosen else 0
        return chosen

    def _brief(self, decoding: list[Sequence], prefilling: list[Sequence], crowd: Crowd) -> int:
        """Return how many prompt tokens fit, or the tokens of others' prompts as far as all may wait for them, and a
        little of the flood's."""
        depth = max((s.computed for s in prefilling), default=0)
        fits = int((self._whole() - self._seconds(decoding)) / self._cost.more(depth))
        others = min(self._usual(decoding), crowd.light + crowd.light // 7 + 1) if crowd.light else 0
        return max(1, fits, others)

    def _usual(self, decoding: list[Sequence]) -> int:
        return max(LEAST, int((STALL - self._seconds(decoding)) / self._cost.more(0)))

    def _whole(self) -> float:
        return max(BRIEF, 2 * self._cost.seconds(1, 0))

    def _seconds(self, decoding: list[Sequence]) -> float:
        return self._cost.seconds(len(decoding), sum(map(len, decoding)))
