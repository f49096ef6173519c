"""Decides whose prompts a step computes: shares by adapter, then by account, whatever number of prompts each has
sent."""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from loradock.engine.core import Sequence
from loradock.engine.scheduling.prefill_budget import split_budget

LIGHT = 512
"""Tokens of prompts that do not make a flood: who asks for no more goes before those who do."""
KEYS = 8 * LIGHT
"""Keys that the decoding rows of one who does not flood may see together."""
WINDOW = 30.0
"""Seconds for which one who asks for little is expected to come again."""
_OLDEST = 8
"""The part of a step that the oldest prompt gets in any case: nobody starves, however many others come."""


class Turnover:
    """Start-time fair queueing (Goyal, Vin, Cheng 1996): who has had least goes first. Who comes back after a pause is
    owed no more than LIGHT tokens, and those at once.

    `_had` counts in virtual tokens: all who ask all the time advance alike.
    """

    def __init__(self) -> None:
        self._had: dict[Hashable, float] = {}
        self._before: set[Hashable] = set()
        self._now = 0.0

    def __contains__(self, key: Hashable) -> bool:
        """Whether it still counts what that one has had."""
        return key in self._had

    def split(self, tokens: int, needs: dict[Any, int]) -> dict[Any, int]:
        """Return how many of `tokens` each gets of what it needs."""
        staying = [self._had[key] for key in needs if key in self._before]
        self._now = max([self._now, *([min(staying)] if staying else [])])
        owed = self._now - LIGHT
        self._had = {key: had for key, had in self._had.items() if key in needs or had > owed}
        for key in needs:
            self._had[key] = max(self._had.get(key, owed), owed)
        self._before = set(needs)
        given = dict.fromkeys(needs, 0)
        while tokens > 0 and (hungry := [key for key in needs if given[key] < needs[key]]):
            tokens -= self._level(tokens, hungry, needs, given)
        return given

    def charge(self, key: Hashable, tokens: int) -> None:
        self._had[key] += tokens

    def _level(self, tokens: int, hungry: list[Any], needs: dict[Any, int], given: dict[Any, int]) -> int:
        """Give to who has had least, up to the next or up to what is needed; how much that was."""
        hungry.sort(key=self._had.__getitem__)
        least = [key for key in hungry if self._had[key] - self._had[hungry[0]] < 1]
        above = hungry[len(least)] if len(least) < len(hungry) else None
        gap = tokens if above is None else int(self._had[above] - self._had[least[0]]) or 1
        most = min(gap, *(needs[key] - given[key] for key in least))
        each = max(1, min(most, tokens // len(least)))
        spent = 0
        for key in least[: max(1, tokens // each)]:
            given[key] += each
            self._had[key] += each
            spent += each
        return spent


class Shares:
    """Knows who floods (`crowded`) and divides a step's prompt tokens."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._adapters = Turnover()
        self._accounts: dict[int, Turnover] = {}
        self._light: dict[tuple[int, str], float] = {}

    def admitted(self, sequence: Sequence) -> None:
        """A sequence begins to run, its cached part found."""
        if len(sequence) - sequence.computed <= LIGHT:
            self._light[sequence.owner] = self._clock()

    def crowd(self, decoding: list[Sequence], prefilling: list[Sequence]) -> "Crowd":
        """Return who is at work at the moment."""
        needs = _sums((sequence.owner, len(sequence) - sequence.computed) for sequence in prefilling)
        keys = _sums((sequence.owner, len(sequence)) for sequence in decoding)
        heavy = {owner for owner, need in needs.items() if need > LIGHT}
        heavy |= {owner for owner, seen in keys.items() if seen > KEYS}
        if heavy:
            since = self._clock() - WINDOW
            self._light = {owner: seen for owner, seen in self._light.items() if seen > since}
        others = bool(heavy) and any(owner not in heavy for owner in self._light)
        return Crowd(others, heavy, sum(need for owner, need in needs.items() if owner not in heavy))

    def divide(self, tokens: int, prefilling: list[Sequence]) -> list[int]:
        """Return how many of `tokens` each prompt gets, the oldest first in `prefilling`."""
        owners = {sequence.owner for sequence in prefilling}
        needs = [len(sequence) - sequence.computed for sequence in prefilling]
        if len(owners) < 2:
            counts = split_budget(tokens, needs)
            self._by_owner(sum(counts), prefilling, needs)
            return counts
        counts = [0] * len(needs)
        counts[0] = min(needs[0], -(-max(0, tokens) // _OLDEST))
        left = [need - count for need, count in zip(needs, counts, strict=True)]
        for owner, given in self._by_owner(tokens - counts[0], prefilling, left).items():
            own = [i for i, sequence in enumerate(prefilling) if sequence.owner == owner]
            for i, count in zip(own, split_budget(given, [left[i] for i in own]), strict=True):
                counts[i] += count
        self._charge(prefilling[0].owner, needs[0] - left[0])
        return counts

    def _by_owner(self, tokens: int, prefilling: list[Sequence], left: list[int]) -> dict[tuple[int, str], int]:
        """Return how many tokens each account gets of its adapter's."""
        needs = _sums((sequence.owner, need) for sequence, need in zip(prefilling, left, strict=True))
        adapters = _sums((adapter, need) for (adapter, _), need in needs.items())
        known = {adapter: turnover for adapter, turnover in self._accounts.items() if adapter in self._adapters}
        self._accounts = known | {adapter: known.get(adapter) or Turnover() for adapter in adapters}
        shares: dict[tuple[int, str], int] = {}
        for adapter, given in self._adapters.split(tokens, adapters).items():
            mine = {owner: need for owner, need in needs.items() if owner[0] == adapter}
            shares |= self._accounts[adapter].split(given, mine)
        return shares

    def _charge(self, owner: tuple[int, str], tokens: int) -> None:
        self._adapters.charge(owner[0], tokens)
        self._accounts[owner[0]].charge(owner, tokens)


@dataclass(frozen=True, slots=True)
class Crowd:
    """`others`: someone floods, and there is who does not. `heavy` flood; `light`: tokens of the prompts of those who
    do not."""

    others: bool
    heavy: set[tuple[int, str]]
    light: int


def _sums(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    sums: dict[Any, int] = defaultdict(int)
    for key, count in pairs:
        sums[key] += count
    return sums
