"""Decides when a lost replica may be replaced, and when enough is enough."""

import time

_LONGEST_PAUSE_S = 30.0


class Restarts:
    """Counts replicas lost in a row: the first is replaced at once, each further one after twice the pause."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lost = 0
        self._not_before = self._lost_at = 0.0

    def note(self, *, begun: float, proven: bool) -> None:
        """A replica was lost that was begun at this time (monotonic); `proven`: after it had run well for a while.

        Several lost together count once: only one begun after the last loss shows that trying again did not help.
        """
        if begun < self._lost_at and not proven:
            return
        self._lost_at = time.monotonic()
        self._lost = 1 if proven else self._lost + 1
        pause = min(2.0 ** (self._lost - 2), _LONGEST_PAUSE_S) if self._lost > 1 else 0.0
        self._not_before = time.monotonic() + pause

    @property
    def exhausted(self) -> bool:
        return self._lost > self._limit

    @property
    def allowed(self) -> bool:
        return time.monotonic() >= self._not_before

    def reset(self) -> None:
        self._lost = 0
        self._not_before = 0.0
        self._lost_at = 0.0
