"""Decides how many threads a small step is worth: one, or all of them."""

FIRST, LONGEST, LONGEST_AWAY = 8, 512, 64
"""Steps between two trials: at first, at most, and at most while something else than the guess is used."""
TRIAL = 3
CLEARLY, HELD_UP, STUCK = 1.3, 2.0, 3.0


class ThreadCount:
    """Chooses one thread or all of them, whichever was faster lately; what it begins with is the caller's guess.

    Threads that share a product wait for each other at its end: on an idle machine all of them are faster, but where
    others want the cores too, each of a step's hundred products waits until the last thread has had its turn. So the
    other choice is tried now and then: after `FIRST` steps, later ever more seldom, and at once when `TRIAL` steps in a
    row take `HELD_UP` times as long as usual, or one of them `STUCK` times. A trial ends after `TRIAL` steps, or with
    the first that takes `CLEARLY` times as long as usual, and its quickest step counts.

    Steps of different sizes (rows) may share it where whether there are cores for all threads is what decides; those of
    more than `few` rows follow what smaller ones have found, for which a trial costs less, while there are such.
    """

    def __init__(self, most: int, *, begin_with_all: bool = False, few: int | None = None) -> None:
        self._current, self._other = (most, 1) if begin_with_all else (1, most)
        self._guess = self._current
        self._few = few
        self._usual: dict[int, float] = {}
        self._interval = self._left = FIRST
        self._trying = False
        self._slow: list[float] = []
        self._tried: list[float] = []

    def choose(self, size: int) -> int:
        small = self._few is None or size <= self._few
        due = self._left <= (0 if small else -LONGEST_AWAY)
        self._trying = due and size in self._usual
        return self._other if self._trying else self._current

    def record(self, size: int, seconds: float) -> None:
        """Record how long the step took that `choose` was asked for."""
        ratio = seconds / max(self._usual.setdefault(size, seconds), 1e-9)
        if self._trying:
            self._tried.append(ratio)
            if len(self._tried) == TRIAL or ratio > CLEARLY:
                self._decide(min(self._tried))
        else:
            self._left -= 1
            self._note(size, ratio)

    def _note(self, size: int, ratio: float) -> None:
        if ratio <= HELD_UP or self._current == 1:  # one thread waits for nobody
            self._slow = []
            self._usual[size] *= 0.8 + 0.2 * ratio
            return
        self._slow.append(ratio)
        if len(self._slow) == TRIAL or ratio > STUCK:
            self._expect(min(self._slow))
            self._slow = []
            self._left = 0

    def _decide(self, ratio: float) -> None:
        if ratio < 1:
            self._current, self._other = self._other, self._current
            self._expect(ratio)
            self._interval = FIRST
        else:
            longest = LONGEST if self._current == self._guess else LONGEST_AWAY
            self._interval = min(2 * self._interval, longest)
        self._tried = []
        self._left = self._interval

    def _expect(self, ratio: float) -> None:
        """Expect that from now on steps take so many times as long."""
        self._usual = {size: seconds * ratio for size, seconds in self._usual.items()}
