"""Decides which requests may wait: counted from the moment they are let in, so that no burst comes past the limit."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from loradock.engine.errors import TooBusy
from loradock.engine.scheduling.loop import EngineLoop

_RESERVE = 16
"""The number of places beside which there is one more for who has nothing under way."""
_LONGEST = 60
_RECENT = 32


@dataclass(frozen=True)
class Owner:
    """Whoever a request is computed for."""

    model: str
    account: str


class Place:
    """A request's `count` generations, from when it was let in until it is closed."""

    def __init__(self, admission: "Admission", owner: Owner, count: int, *, extra: bool) -> None:
        self._admission = admission
        self.owner = owner
        self.count = count
        self.extra = extra
        self._handed_over = self._left = False

    def hand_over(self, blocks: int) -> None:
        """The compute thread is about to get them; they need so many blocks of the cache. Raises TooBusy."""
        self._admission.sized(self, blocks)
        self._handed_over = True

    def leave(self) -> None:
        """Harmless when repeated."""
        if not self._left:
            self._left = True
            self._admission.left(self, handed_over=self._handed_over)


class Admission:
    """Admits generations. At most `waiting` of them wait, those on their way to the compute thread included: for their
    adapter, their prompt's tokens, or between two steps. When a flood has taken these places, those who have nothing
    under way find a few more.

    It lives on the event loop's thread; what it reads of the compute thread's numbers may be a moment old.
    """

    def __init__(
        self, loop: EngineLoop, running: int, waiting: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._running = running
        self._waiting = waiting
        self._clock = clock
        self._coming = self._handed_over = 0
        self._sized: deque[tuple[int, int, int]] = deque()
        self._owners: Counter[Owner] = Counter()
        self._extra = 0
        self._reserve = -(-waiting // _RESERVE)
        self._ends: deque[float] = deque(maxlen=_RECENT)

    def enter(self, owner: Owner, count: int) -> Place:
        """Raises TooBusy. A request of more generations than may wait gets in when nobody waits."""
        now, then = self._would_wait(0), self._would_wait(count)
        extra = then > self._waiting and (now > 0 or count <= self._waiting)
        if extra and (self._owners[owner] or self._extra + count > self._reserve):
            raise self._too_busy(now)
        self._coming += count
        self._extra += count * extra
        self._owners[owner] += count
        return Place(self, owner, count, extra=extra)

    def sized(self, place: Place, blocks: int) -> None:
        """The same once it is known how much of the cache they need: what has to wait for that waits too."""
        while self._sized and self._sized[0][0] <= self._loop.taken:
            self._sized.popleft()
        waiting = self._loop.waiting
        ahead = sum(pending for _, pending, _ in self._sized) + self._loop.running
        crowded_out = place.count if waiting or blocks + ahead > self._loop.scheduler.cache.available else 0
        then = waiting + sum(others for _, _, others in self._sized) + crowded_out
        if crowded_out and then > max(self._waiting, place.count) and not place.extra:
            raise self._too_busy(then - crowded_out)
        self._coming -= place.count
        self._handed_over += place.count
        self._sized.append((self._handed_over, blocks, crowded_out))

    def left(self, place: Place, *, handed_over: bool) -> None:
        if handed_over:
            self._ends.extend([self._clock()] * min(place.count, _RECENT))
        else:
            self._coming -= place.count
        self._extra -= place.count * place.extra
        self._owners[place.owner] -= place.count
        if self._owners[place.owner] <= 0:
            del self._owners[place.owner]

    def _would_wait(self, more: int) -> int:
        """Return how many would wait, with so many more. Free places are taken without waiting, unless the cache is
        full: then someone waits already."""
        waiting = self._loop.waiting
        free = 0 if waiting else max(0, self._running - self._loop.running)
        return waiting + max(0, self._coming + self._handed_over - self._loop.taken + more - free)

    def _too_busy(self, waiting: int) -> TooBusy:
        error = TooBusy(waiting=waiting)
        if len(self._ends) > 1:
            pause = (self._clock() - self._ends[0]) / (len(self._ends) - 1)
            error.retry_after = min(_LONGEST, max(1, math.ceil(pause)))
        return error
