"""Speculative decoding without a second model: drafts of what comes next are taken from what was said before.

Where reading the weights is what a step takes its time for, a few more tokens in it cost little. What followed the last
tokens when they stood in the prompt or the answer before often follows them again: names, lists, code, what is to be
quoted or corrected (prompt lookup: https://github.com/apoorvumang/prompt-lookup-decoding). And an adapter was trained
to say the same things again and again, so the latest answers through it are looked into, too. Of a draft only what is
sampled anyway is accepted: where a row is computed alike whoever shares its step, as the compiled decoder does to the
last bit, answers are the same with and without drafts.
"""

from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import cycle, islice

from loradock.engine.core import Sequence

TOGETHER = 16
"""Tokens of a step with drafts: more of them no longer come for little."""
_RUNS = ((4, 3, 2), (1,))
"""The lengths of runs of last tokens to look for: a run of several is looked for everywhere before a single one."""
_REACH, _NGRAMS, _OWNERS = 4096, 4096, 256
"""The number of tokens back that runs are looked for in a sequence and in earlier answers, and the number of adapters
these are kept for."""
_MISSES = 64
"""Bytes may look like the wanted tokens between two tokens; after so many such places the search ends."""
_OPENING, _BORDER = 4, -1
"""Tokens of a prompt's end that are kept with its answer, and what stands between two answers."""
_HOPE, _TRIED = 1.0, 2.0
"""The assumption before anything is known: as if one of two drafted tokens had been accepted."""
_FADE, _FADE_OF_ALL = 0.9, 0.99
"""The share of earlier observations that counts after the next draft: of a sequence, and of all, which is what a new
sequence begins with."""
_EXPECTED_SPEEDUP, _LONGER = 1.02, 2.0
"""The least speedup that a draft must promise, and how many times as long a step may take: tokens that come in bursts
are read less well."""
_UNTRIED, _FORGET = 1.05, 0.995
"""The factor by which another token is assumed to lengthen a step as long as nobody has tried; and how fast what was
measured gets less certain, so that it is tried again."""


def _int32() -> "array[int]":
    return array("i")


_NONE = _int32()


@dataclass(slots=True)
class _SequenceHistory:
    """A sequence's tokens, and how many drafted ones were accepted lately of those that were tried, or would have been:
    of a draft that was not tried the first token, `untried`, shows as well whether it was right."""

    tokens: "array[int]" = field(default_factory=_int32)
    accepted: float = _HOPE
    tried: float = _TRIED
    untried: int | None = None

    def follow(self, sequence: Sequence) -> None:
        known = len(self.tokens) - len(sequence.prompt)
        if known < 0:
            self.tokens, known = array("i", sequence.prompt), 0
        said = sequence.output[known:]
        self.tokens.extend(said)
        if said and self.untried is not None:
            self.note(1, int(said[0] == self.untried))

    def note(self, drafted: int, accepted: int, fade: float = _FADE) -> None:
        """Count a draft's result; the tokens behind its first wrong one do not count as tried."""
        self.accepted = fade * self.accepted + accepted
        self.tried = fade * self.tried + min(drafted, accepted + 1)
        self.untried = None

    def draft(self, ngrams: "array[int]", most: int) -> list[int]:
        """Return what followed the longest run of the last tokens that stood before, here or else in earlier answers;
        it is repeated where it ends here."""
        own, others = self.tokens[-_REACH:].tobytes(), ngrams.tobytes()
        for counts in _RUNS:
            if at := _latest(own, own, len(own) - 4, counts):
                return list(islice(cycle(self.tokens[at - len(own) // 4 :]), most))
            if at := _latest(others, own, len(others), counts):
                return _until_border(ngrams[at : at + most])
        return []


def _latest(text: bytes, last: bytes, end: int, counts: tuple[int, ...]) -> int:
    """Behind which token of `text`, before `end`, as many of the last tokens as possible stand; 0 if there are none."""
    runs = (last[-4 * count :] for count in counts if 4 * count <= len(last))
    return next((at for run in runs if (at := _behind(text, run, end))), 0)


def _behind(text: bytes, wanted: bytes, end: int) -> int:
    """Return where, in tokens of int32, the last occurrence of `wanted` before `end` (in bytes) ends; 0 if there is
    none."""
    for _ in range(_MISSES):
        at = text.rfind(wanted, 0, end)
        if at < 0:
            return 0
        if at % 4 == 0:
            return (at + len(wanted)) // 4
        end = at + len(wanted) - 1
    return 0


def _until_border(tokens: "array[int]") -> list[int]:
    found = tokens.tolist()
    return found[: found.index(_BORDER)] if _BORDER in found else found


class NgramDrafter:
    """Drafts for the sequences of a step, at most `most` tokens each, as long as they are thought to make more tokens a
    second: from how many were accepted lately, and what steps of so many tokens took.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.drafted = self.accepted = 0
        self._past: dict[int, _SequenceHistory] = {}
        self._all = _SequenceHistory()
        self._ngrams: OrderedDict[int, array[int]] = OrderedDict()
        self._seconds: dict[int, float] = {}

    def propose(self, sequences: list[Sequence]) -> list[list[int]]:
        """Return a draft for each of those that decode in the next step. All are empty where drafts promise nothing."""
        if not self.most or not 0 < len(sequences) <= TOGETHER // 2:
            return [[] for _ in sequences]
        drafts = [self._draft(sequence) for sequence in sequences]
        count = self._worth(sequences, drafts) if any(drafts) else 0
        for sequence, draft in zip(sequences, drafts, strict=True):
            self._past[sequence.id].untried = draft[0] if draft and not count else None
        return [draft[:count] for draft in drafts]

    def record(self, tokens: int, seconds: float) -> None:
        """Record how long a step of so many tokens took, none of them of a prompt."""
        if not self.most or tokens > TOGETHER:
            return
        before = self._seconds.get(tokens) or min(seconds, 2 * self._estimate(tokens, seconds))
        self._seconds = {n: _FORGET * s for n, s in self._seconds.items()}
        self._seconds[tokens] = 0.8 * before + 0.2 * min(seconds, 2 * before)

    def note(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Record how many tokens of a sequence's draft were accepted."""
        self.drafted += drafted
        self.accepted += accepted
        if past := self._past.get(sequence.id):
            past.note(drafted, accepted)
            self._all.note(drafted, accepted, _FADE_OF_ALL)

    def forget(self, sequence: Sequence) -> None:
        """Forget a sequence that has ended: what was said is kept for others of its adapter."""
        if self._past.pop(sequence.id, None) is None:
            return
        owner = _owner(sequence)
        ngrams = self._ngrams.setdefault(owner, _int32())
        self._ngrams.move_to_end(owner)
        ngrams.extend((*sequence.prompt[-_OPENING:], *sequence.output, _BORDER))
        del ngrams[:-_NGRAMS]
        if len(self._ngrams) > _OWNERS:
            self._ngrams.popitem(last=False)

    def forget_adapter(self, load_id: int) -> None:
        self._ngrams.pop(load_id, None)

    def _draft(self, sequence: Sequence) -> list[int]:
        if sequence.id not in self._past:
            usual = self._all.accepted / self._all.tried
            self._past[sequence.id] = _SequenceHistory(accepted=_TRIED * usual, tried=_TRIED)
        past = self._past[sequence.id]
        past.follow(sequence)
        # One token is sampled in any case.
        room = min(self.most, sequence.params.max_tokens - len(sequence.output) - 1)
        return past.draft(self._ngrams.get(_owner(sequence), _NONE), room) if room > 0 else []

    def _worth(self, sequences: list[Sequence], drafts: list[list[int]]) -> int:
        """Return how many tokens of each draft to try."""
        chances = [past.accepted / past.tried for past in (self._past[sequence.id] for sequence in sequences)]
        best, best_rate = 0, _EXPECTED_SPEEDUP * len(sequences) / self._estimate(len(sequences))
        for count in range(1, max(map(len, drafts)) + 1):
            lengths = [min(count, len(draft)) for draft in drafts]
            tokens = len(sequences) + sum(lengths)
            if tokens > TOGETHER or self._estimate(tokens) > _LONGER * self._estimate(len(sequences)):
                break
            rate = sum(map(_expected, chances, lengths)) / self._estimate(tokens)
            if rate > best_rate:
                best, best_rate = count, rate
        return best

    def _estimate(self, tokens: int, otherwise: float = 1.0) -> float:
        """Seconds of a step, no less than of a smaller one; where they are not known, from the next smaller one."""
        known = max((n for n in self._seconds if n <= tokens), default=0)
        seconds = max((s for n, s in self._seconds.items() if n <= tokens), default=otherwise)
        return float(seconds * _UNTRIED ** (tokens - known))


def _expected(chance: float, drafted: int) -> float:
    """Tokens that a step makes of a sequence."""
    return sum(chance**n for n in range(drafted + 1))


def _owner(sequence: Sequence) -> int:
    return sequence.adapter.load_id if sequence.adapter else 0
