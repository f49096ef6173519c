"""How many threads there may be, on which processors, and how many of them a small step is worth."""

import contextlib
import ctypes
import os
import threading

FIRST, LONGEST = 8, 512
TRIAL = 3
SUDDEN, CLEARLY = 3.0, 1.3
_libc = ctypes.CDLL(None) if hasattr(os, "sched_setaffinity") else None


def processors() -> frozenset[int]:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def current_processor() -> int:
    """The number of the one that this thread is on; -1 where the system does not tell."""
    return _libc.sched_getcpu() if _libc else -1


class Helpers:
    """The threads that compute beside the compute thread, kept off its processor.

    Two that wait for each other on one processor, because something of less importance has the other, take turns at
    it, and the system takes seconds to see that. Only Linux can be told. With fewer processors than `count` and the
    compute thread need, they stay where the system puts them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads: list[int] = []
        self._kept: tuple[int, int] | None = None

    def join(self) -> None:
        """To be called by each of them."""
        self._threads.append(threading.get_native_id())

    def keep_off(self) -> None:
        """Called by the compute thread before it has them run: they sleep, so that none is moved while it runs."""
        kept = current_processor(), len(self._threads)
        if kept == self._kept or kept[0] < 0:
            return
        self._kept = kept
        others = processors() - {kept[0]}
        for thread in self._threads if len(others) >= self._count else ():
            with contextlib.suppress(OSError):  # it has ended, or the processors were changed just now
                os.sched_setaffinity(thread, others)


class ThreadCount:
    """One thread or all of them, whichever was faster lately; what it begins with is the caller's guess.

    Threads that share a product wait for each other at its end: on an idle machine all of them are faster, but where
    others want the cores too, each of a step's hundred products waits until the last thread has had its turn. So the
    other choice is tried now and then: after `FIRST` steps, later ever more seldom, and at once when a step takes
    `SUDDEN` times as long as usual. A trial ends after `TRIAL` steps, or with the first that takes `CLEARLY` times as
    long as usual, and its quickest step counts.
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
        slower = self._usual is not None and seconds > CLEARLY * self._usual
        if len(self._tried) == TRIAL or slower:
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
