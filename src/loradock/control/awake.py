"""A clock that stands still while this process does: stopped, starved, or asleep with its machine."""

import asyncio
import time
from collections.abc import Callable

_TICK_S = 0.25
_LATE_S = 1.0


class AwakeClock:
    """Measures the time that this process has slept through, for which others cannot be blamed.

    `run` has to be running. What the event loop is kept from its turn beyond a second counts as slept through.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticked = clock()
        self._slept = 0.0

    def now(self) -> float:
        """Seconds awake. Right also in the very moment of waking, before `run` has had its turn."""
        return self._clock() - self._slept - self._late()

    async def run(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(_TICK_S)

    def tick(self) -> None:
        self._slept += self._late()
        self._ticked = self._clock()

    @property
    def slept(self) -> float:
        """The number of seconds it has slept in all."""
        return self._slept + self._late()

    def _late(self) -> float:
        return max(0.0, self._clock() - self._ticked - _TICK_S - _LATE_S)
