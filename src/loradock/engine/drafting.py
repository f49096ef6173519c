"""Speculative decoding without a second model: drafts of what comes next are taken from what was said before.

Where reading the weights is what a step takes its time for, a few more tokens in it cost little. What followed the last
tokens when they stood in the prompt or the answer before often follows them again: names, lists, code, what is to be
quoted or corrected (prompt lookup: https://github.com/apoorvumang/prompt-lookup-decoding). Of a draft only what is
sampled anyway is accepted, so that answers are the same with and without drafts.
"""

from array import array
from dataclasses import dataclass, field
from itertools import cycle, islice

from loradock.engine.core import Sequence

TOGETHER = 16
"""Tokens of a step with drafts: more of them no longer come for little."""
_LONGEST, _SHORTEST = 4, 2
"""Tokens that must have stood before."""
_REACH = 8192
"""How many tokens back they are looked for."""
_HOPE, _TRIED = 1.0, 2.0
"""A sequence of which nothing is known yet counts as if one of two drafted tokens had been accepted."""
_FADE = 0.9
_UNTRIED, _FORGET = 1.05, 0.998
"""What another token is thought to add to a step as long as nobody has tried; how fast what was measured gets less
certain, so that it is tried again."""


@dataclass(slots=True)
class _Past:
    """A sequence's tokens, as int32, and how many drafted ones were accepted lately of those that were tried."""

    tokens: "array[int]" = field(default_factory=lambda: array("i"))
    accepted: float = _HOPE
    tried: float = _TRIED

    def follow(self, sequence: Sequence) -> None:
        known = len(self.tokens) - len(sequence.prompt)
        if known < 0:
            self.tokens, known = array("i", sequence.prompt), 0
        self.tokens.extend(sequence.output[known:])

    def draft(self, most: int) -> list[int]:
        """What followed the longest run of the last tokens that stood there before; on and on where it ends soon."""
        text = self.tokens[-_REACH:].tobytes()
        for count in range(min(_LONGEST, len(text) // 4 - 1), _SHORTEST - 1, -1):
            if behind := _since(text, count):
                return list(islice(cycle(self.tokens[-behind:]), max(0, most)))
        return []


def _since(text: bytes, count: int) -> int:
    """How many tokens of int32 follow the place where the last `count` stood the time before, 0 if there is none."""
    wanted, end = text[-4 * count :], len(text) - 4
    while (at := text.rfind(wanted, 0, end)) >= 0:
        if at % 4 == 0:
            return len(text) // 4 - at // 4 - count
        end = at + len(wanted) - 1
    return 0


class Drafter:
    """Drafts for the sequences of a step, at most `most` tokens each, as long as they are thought to make more tokens a
    second: from how many were accepted lately, and what steps of so many tokens took.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.drafted = self.accepted = 0
        self._past: dict[int, _Past] = {}
        self._seconds: dict[int, float] = {}

    def propose(self, sequences: list[Sequence]) -> list[list[int]]:
        """For each of those that decode in the next step. All empty where drafts promise nothing."""
        if not self.most or len(sequences) >= TOGETHER:
            return [[] for _ in sequences]
        drafts = [self._draft(sequence) for sequence in sequences]
        count = self._worth(sequences, drafts) if any(drafts) else 0
        return [draft[:count] for draft in drafts]

    def record(self, tokens: int, seconds: float) -> None:
        """What a step of so many tokens took, none of them of a prompt."""
        if not self.most or tokens > TOGETHER:
            return
        before = self._seconds.get(tokens, seconds)
        self._seconds = {n: _FORGET * s for n, s in self._seconds.items()}
        self._seconds[tokens] = 0.8 * before + 0.2 * min(seconds, 2 * before)

    def note(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """What became of a sequence's draft. What came behind its first wrong token was not tried."""
        self.drafted += drafted
        self.accepted += accepted
        if past := self._past.get(sequence.id):
            past.accepted = _FADE * past.accepted + accepted
            past.tried = _FADE * past.tried + min(drafted, accepted + 1)

    def forget(self, sequence: Sequence) -> None:
        self._past.pop(sequence.id, None)

    def _draft(self, sequence: Sequence) -> list[int]:
        past = self._past.setdefault(sequence.id, _Past())
        past.follow(sequence)
        # One token is sampled in any case.
        return past.draft(min(self.most, sequence.params.max_tokens - len(sequence.output) - 1))

    def _worth(self, sequences: list[Sequence], drafts: list[list[int]]) -> int:
        """How many tokens of each draft to try."""
        chances = [past.accepted / past.tried for past in (self._past[sequence.id] for sequence in sequences)]
        best, best_rate = 0, len(sequences) / self._estimate(len(sequences))
        for count in range(1, max(map(len, drafts)) + 1):
            lengths = [min(count, len(draft)) for draft in drafts]
            tokens = len(sequences) + sum(lengths)
            if tokens > TOGETHER:
                break
            rate = sum(map(_expected, chances, lengths)) / self._estimate(tokens)
            if rate > best_rate:
                best, best_rate = count, rate
        return best

    def _estimate(self, tokens: int) -> float:
        """Seconds of a step; where they are not known, from the next smaller one."""
        known = max((n for n in self._seconds if n <= tokens), default=0)
        seconds = self._seconds[known] if known else 1.0
        return float(seconds * _UNTRIED ** (tokens - known))


def _expected(chance: float, drafted: int) -> float:
    """Tokens that a step makes of a sequence."""
    return sum(chance**n for n in range(drafted + 1))
