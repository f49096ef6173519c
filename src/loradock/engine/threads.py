"""How many threads there may be, and how many of them a small step is worth."""

import os

FIRST, LONGEST = 8, 512
TRIAL = 3
SUDDEN = 3.0


def processors() -> int:
    """Those this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ThreadCount:
    """One thread or all of them, whichever was faster lately; what it begins with is the caller's guess.

    Threads that share a product wait for each other at its end: on an idle machine all of them are faster, but where
    others want the cores too, each of a step's hundred products waits until the last thread has had its turn. So the
    other choice is tried now and then for `TRIAL` steps: after `FIRST` steps, later ever more seldom, and at once when
    a step takes `SUDDEN` times as long as usual.
    """

    def __init__(self, most: int, *, begin_with_all: bool = False) -> None:
        self._current, self._other = (most, 1) if begin_with_all else (1, most)
        self._usual: float | None = None
        self._interval = self._left = FIRST
        self._tried: list[float] = []

    def choose(self) -> int:
        return self._current if self._left > 0 else self._other

    def record(self, seconds: float) -> None:
        """How long the step took that `choose` was asked for."""
        if self._left > 0:
            self._record_current(seconds)
            return
        self._tried.append(seconds)
        if len(self._tried) == TRIAL:
            self._decide(min(self._tried))

    def _record_current(self, seconds: float) -> None:
        self._left -= 1
        usual = seconds if self._usual is None else self._usual
        if self._current > 1 and seconds > SUDDEN * usual:
            self._interval, self._left = FIRST, 0
            self._usual = seconds
            return
        self._usual = 0.8 * usual + 0.2 * seconds

    def _decide(self, tried: float) -> None:
        if self._usual is None or tried < self._usual:
            self._current, self._other = self._other, self._current
            self._usual, self._interval = tried, FIRST
        else:
            self._interval = min(2 * self._interval, LONGEST)
        self._tried, self._left = [], self._interval
