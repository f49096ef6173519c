"""Looks after one replica from its launch (or its being found again) to its end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from loradock.control.context import ControlContext
from loradock.control.replicas.liveness import Health, Patience
from loradock.control.replicas.process import ReplicaEnded
from loradock.control.replicas.replica import Replica
from loradock.control.replicas.residency import ReadWanted, Residency
from loradock.control.replicas.startup import until_healthy
from loradock.control.replicas.tending import Tending
from loradock.control.replicas.termination import Termination
from loradock.control.replicas.watcher import Watcher
from loradock.types.enums import Fate, ReplicaState
from loradock.types.errors import LoradockError, ReplicaLost

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_GOING_S = 3.0
"""The time in which a process has to be seen to end after its connections have broken."""


class ReplicaSupervisor:
    """Keeps one replica healthy and its adapters as wanted; calls `changed` when others should look, and `note` with
    the kind of an event and its message.

    `settled` is set once its start has succeeded or failed.
    """

    def __init__(
        self,
        replica: Replica,
        secret: str,
        base_name: str,
        context: ControlContext,
        wanted: ReadWanted,
        changed: Callable[[], None],
        note: Callable[[str, str], None],
    ) -> None:
        self.replica = replica
        self.settled = asyncio.Event()
        self._secret = secret
        self._base_name = base_name
        self._context = context
        self._wanted = wanted
        self._changed = changed
        self._note = note
        self._wake = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._termination = Termination(replica, context.options, self._stop, changed)

    def start(self) -> None:
        self._life = asyncio.create_task(self._live())

    def wake(self) -> None:
        self._wake.set()

    def end(self, unroute: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]], drain: float) -> None:
        """Unroute, give running requests `drain` seconds, terminate, then call `done`. Returns at once; a second call
        may only shorten the time that is left."""
        self._termination.begin(unroute, done, drain)

    async def ended(self) -> None:
        if self._termination.task is not None:
            await self._termination.task

    async def leave(self) -> None:
        """Stop looking after it; the replica itself runs on."""
        if self._life:
            await self.replica.process.obtained()
        tasks = [task for task in (self._life, self._termination.task) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop(self) -> None:
        if self._life:
            await self.replica.process.obtained()
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self) -> None:
        try:
            await self._start_and_watch()
        except (ReplicaEnded, LoradockError, OSError) as error:
            await self._fail(error)
        except Exception as error:
            _log.exception("replica %s is given up", self.replica.id)
            await self._fail(error)
        finally:
            self.settled.set()
            self._changed()

    async def _start_and_watch(self) -> None:
        """Checks and tends side by side: what is wanted of an engine that is stuck does not end."""
        instance = await self.replica.process.obtain()
        client, upstream = await until_healthy(self.replica, instance, self._secret, self._context)
        options, awake = self._context.options, self._context.awake
        patience = Patience(options.unready_after, options.hung_after, options.hung_after * options.stretch)
        watcher = Watcher(instance, client, awake, patience, lambda: upstream.in_flight)
        residency = Residency(client, self._context.locks, self._wanted, upstream.turn)
        signals = (self._changed, self.wake, partial(self._become_ready, watcher))
        async with Tending(residency, self._base_name, upstream, options, awake, *signals) as tending:
            tending.go_on()
            while True:
                await self._pause()
                health = await watcher.check()
                self._notice(health, watcher)
                if health in (Health.STARTING, Health.READY):
                    tending.go_on()

    def _become_ready(self, watcher: Watcher, residency: Residency) -> None:
        replica = self.replica
        replica.residency = residency
        watcher.liveness.started()
        replica.health = watcher.liveness.health
        if replica.state is ReplicaState.STARTING:
            replica.state = ReplicaState.READY
            replica.ready_since = time.monotonic()
            self.settled.set()
            self._changed()

    def _notice(self, health: Health, watcher: Watcher) -> None:
        replica = self.replica
        replica.resident = watcher.use.resident
        before, replica.health = replica.health, health
        if health is before:
            return
        replica.unready_because = why = watcher.liveness.reason
        _log.info("replica %s: %s → %s %s", replica.id, before.name, health.name, why)
        if health is Health.LOST:
            raise ReplicaEnded(why, watcher.fate)
        if health is Health.UNREADY:
            self._note("replica.unready", f"{replica.id} gets no new requests: {why}")
        elif before is Health.UNREADY:
            self._note("replica.recovered", f"{replica.id} gets requests again")
        self._changed()

    async def _pause(self) -> None:
        """Wait until woken or a tick has passed. Raises ReplicaEnded as soon as the process is gone."""
        until = time.monotonic() + self._context.options.tick
        while time.monotonic() < until and not self._wake.is_set():
            self.replica.process.check_alive()
            with suppress(TimeoutError):
                # Not wait_for, which may swallow a cancellation before 3.12 (github.com/python/cpython/issues/86296).
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()
        self._wake.clear()
        self.replica.process.check_alive()

    async def _fail(self, error: Exception) -> None:
        replica = self.replica
        ending = await replica.process.ending(_GOING_S if isinstance(error, ReplicaLost) else 0.0)
        replica.failure = ending.reason if ending else str(error) or type(error).__name__
        if replica.upstream is not None:
            replica.upstream.lose(ending.fate if ending else getattr(error, "fate", Fate.UNKNOWN))
        if replica.state is not ReplicaState.DRAINING:
            replica.state = ReplicaState.FAILED
