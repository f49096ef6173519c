"""Checks one replica: what it says of itself, what its process does, and whether this server was there to see it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from loradock.control.awake import AwakeClock
from loradock.control.replicas.liveness import Health, Liveness, Observation, Patience
from loradock.replicas.client import ReplicaClient
from loradock.replicas.launcher import Instance, ProcessUse
from loradock.replicas.vitals import Answer, Vitals
from loradock.types.enums import Fate

_MOVES, _WORKS = 0.005, 0.2
"""Shares of a processor: more than the first is used by whoever is not stuck, more than the second by whoever computes
and not just answers. The second is for engines that do not tell what their compute threads use."""

# Not the event loop's own threads: a slow database may have taken all of them.
_CHECKING = ThreadPoolExecutor(2, "health-check")


class Watcher:
    """`in_flight`: requests that the gateway has sent it. `use` is what the process took when last seen."""

    def __init__(
        self,
        instance: Instance,
        client: ReplicaClient,
        clock: AwakeClock,
        patience: Patience,
        in_flight: Callable[[], int],
    ) -> None:
        self.liveness = Liveness(patience)
        self.use = ProcessUse()
        self._instance = instance
        self._client = client
        self._clock = clock
        self._in_flight = in_flight
        self._seen: tuple[float, Vitals, ProcessUse] | None = None
        self._slept = clock.slept

    @property
    def fate(self) -> Fate:
        """The fate of a replica that was given up."""
        return Fate.KILLED if self.use.stopped else Fate.STUCK

    async def check(self) -> Health:
        began = self._clock.now()
        vitals = await self._client.vitals()
        self.use = await asyncio.get_running_loop().run_in_executor(_CHECKING, self._instance.use)
        until, slept = self._clock.now(), self._clock.slept
        moved, computing = self._compared(until, vitals)
        health = self.liveness.observe(
            Observation(
                at=began,
                until=until,
                answer=vitals.answer,
                progressed=moved,
                working=self._works(vitals),
                computing=computing,
                held=self.use.stopped,
                paused=slept > self._slept,
                why=vitals.why,
            )
        )
        self._slept = slept
        if vitals.answer is Answer.GOOD or self._seen is None:
            self._seen = (until, vitals, self.use)
        else:
            self._seen = (until, self._seen[1], self.use)
        return health

    def _works(self, vitals: Vitals) -> bool:
        """vLLM's own count stands still with its steps: what the gateway has sent counts too."""
        if vitals.steps is None:
            return False
        return bool(vitals.work) or (vitals.compute_seconds is None and self._in_flight() > 0)

    def _compared(self, until: float, vitals: Vitals) -> tuple[bool, bool]:
        """Return whether steps have moved since the look before, and whether processor time was used."""
        if self._seen is None:
            return True, True
        at, before, use = self._seen
        seconds = max(until - at, 1e-3)
        moved = vitals.steps is None or before.steps is None or vitals.steps != before.steps
        if vitals.compute_seconds is not None and before.compute_seconds is not None:
            return moved, vitals.compute_seconds - before.compute_seconds > _MOVES * seconds
        least = _WORKS if vitals.answer is Answer.GOOD else _MOVES
        return moved, self.use.processor - use.processor > least * seconds
