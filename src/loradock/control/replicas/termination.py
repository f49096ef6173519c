"""The end of a replica that is wanted no more, or lost: unrouted, drained, terminated, forgotten."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from loradock.control.options import ControlOptions
from loradock.control.replicas.replica import Replica
from loradock.gateway.routing.upstream import Upstream
from loradock.types.enums import Fate, ReplicaState

_log = logging.getLogger(__name__)
_Step = Callable[[], Awaitable[object]]


class Termination:
    """`stop_supervision` is called once running requests have ended, and before the process is."""

    def __init__(
        self, replica: Replica, options: ControlOptions, stop_supervision: _Step, changed: Callable[[], None]
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._replica = replica
        self._options = options
        self._stop_supervision = stop_supervision
        self._changed = changed
        self._patience: asyncio.Timeout | None = None

    def begin(self, unroute: _Step, done: _Step, drain: float) -> None:
        """Begin to end it as ReplicaSupervisor.end does."""
        if self._patience is not None and not self._patience.expired():
            sooner = asyncio.get_running_loop().time() + drain
            self._patience.reschedule(min(sooner, self._patience.when() or sooner))
        if self.task is None:
            self._replica.state = ReplicaState.DRAINING
            self.task = asyncio.create_task(self._run_with_retry(unroute, done, drain))

    async def _run_with_retry(self, unroute: _Step, done: _Step, drain: float) -> None:
        """Run until it has ended, as nobody else ends it: what fails (a busy database, a process that will not die) is
        tried again."""
        while True:
            try:
                return await self._run(unroute, done, drain)
            except Exception:
                _log.exception("replica %s could not be ended; it is tried again", self._replica.id)
                await asyncio.sleep(self._options.tick)

    async def _run(self, unroute: _Step, done: _Step, drain: float) -> None:
        replica = self._replica
        await unroute()
        if replica.upstream is not None:
            await self._let_finish(replica.upstream, drain)
        await self._stop_supervision()
        if replica.upstream is not None:
            replica.upstream.lose(Fate.KILLED)
        await replica.process.terminate(self._options.grace)
        await done()
        self._changed()

    async def _let_finish(self, upstream: Upstream, drain: float) -> None:
        self._patience = asyncio.timeout(drain)
        with suppress(TimeoutError):
            async with self._patience:
                await upstream.drained()
        self._patience = None
