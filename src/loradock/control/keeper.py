"""One replica from its launch (or its being found again) to its end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from loradock.control.options import ControlOptions
from loradock.control.residency import ReadWanted, Residency
from loradock.control.work import Locks, Transactions
from loradock.gateway.upstream import Upstream
from loradock.replicas.client import ReplicaClient
from loradock.replicas.launcher import Instance, Launcher, ReplicaSpec
from loradock.types.enums import AdapterTier, ReplicaState
from loradock.types.errors import LoradockError

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_PROVEN_S = 60.0
_TIERS_S = 3.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every part of the control loop works with."""

    transact: Transactions
    launcher: Launcher
    http: aiohttp.ClientSession
    options: ControlOptions
    locks: Locks


class _Ended(Exception):
    """The replica is of no more use; the text says why."""


class ReplicaKeeper:
    """Keeps one replica healthy and its adapters as wanted; calls `changed` when others should look.

    `settled` is set once its start has succeeded or failed.
    """

    def __init__(
        self,
        replica_id: str,
        secret: str,
        base_name: str,
        settings: str | None,
        around: Surroundings,
        wanted: ReadWanted,
        changed: Callable[[], None],
    ) -> None:
        self.id, self.settings = replica_id, settings
        self.state = ReplicaState.STARTING
        self.upstream: Upstream | None = None
        self.residency: Residency | None = None
        self.failure: str | None = None
        self.begun = time.monotonic()
        self.ready_since: float | None = None
        self.answering = True
        self._secret, self._base_name = secret, base_name
        self._around, self._wanted, self._changed = around, wanted, changed
        self._client: ReplicaClient | None = None
        self._instance: Instance | None = None
        self.settled = asyncio.Event()
        self._obtained = asyncio.Event()
        self._wake = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None
        self._patience: asyncio.Timeout | None = None

    @property
    def proven(self) -> bool:
        """Ran long enough that what ended it does not count as a failure in a row."""
        return self.ready_since is not None and time.monotonic() - self.ready_since > _PROVEN_S

    async def tiers(self) -> dict[str, AdapterTier]:
        """Where this replica keeps each adapter now; nothing while it does not answer."""
        try:
            async with asyncio.timeout(_TIERS_S):
                return await self._client.tiers() if self._client else {}
        except (LoradockError, TimeoutError):
            return {}

    def holds(self, name: str, path: Path) -> bool:
        return self.residency is not None and self.residency.held.get(name) == path

    @property
    def refused(self) -> dict[str, str]:
        """Adapters its engine would not take, and why."""
        return self.residency.refused if self.residency else {}

    def serves(self, attached: dict[str, Path]) -> bool:
        """Whether it holds all of these that it can hold."""
        return all(self.holds(name, path) or name in self.refused for name, path in attached.items())

    def memory(self) -> int:
        """Bytes of this machine's memory that it takes; 0 once it is gone. Blocks."""
        return self._instance.memory() if self._instance else 0

    def start(self, spec: ReplicaSpec | None) -> None:
        """Launch by `spec`; without one, adopt what already runs."""
        self._life = asyncio.create_task(self._live(spec))

    def wake(self) -> None:
        self._wake.set()

    def end(self, unroute: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]], drain: float) -> None:
        """Unroute, give running requests `drain` seconds, terminate, then call `done`. Returns at once; a second call
        may only shorten the time that is left."""
        if self._patience is not None and not self._patience.expired():
            sooner = asyncio.get_running_loop().time() + drain
            self._patience.reschedule(min(sooner, self._patience.when() or sooner))
        if self._end is None:
            self.state = ReplicaState.DRAINING
            self._end = asyncio.create_task(self._finish_surely(unroute, done, drain))

    async def ended(self) -> None:
        if self._end is not None:
            await self._end

    async def leave(self) -> None:
        """Stop looking after it; the replica itself runs on."""
        if self._life:
            await self._obtained.wait()  # a launch under way would end in a process that nobody has seen
        tasks = [task for task in (self._life, self._end) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _live(self, spec: ReplicaSpec | None) -> None:
        try:
            self._instance = instance = await asyncio.to_thread(self._obtain, spec)
            self._obtained.set()
            residency = await self._until_healthy(instance)
            await residency.settle()
            await residency.probe_base(self._base_name)
            self.residency = residency
            self._become_ready()
            await self._watch(instance, residency)
        except (_Ended, LoradockError, OSError) as error:
            await self._fail(error)
        except Exception as error:
            _log.exception("replica %s is given up", self.id)
            await self._fail(error)
        finally:
            self._obtained.set()
            self.settled.set()
            self._changed()

    def _become_ready(self) -> None:
        if self.state is ReplicaState.STARTING:
            self.state, self.ready_since = ReplicaState.READY, time.monotonic()
            self.settled.set()
            self._changed()

    def _obtain(self, spec: ReplicaSpec | None) -> Instance:
        launcher = self._around.launcher
        instance = launcher.launch(spec) if spec else launcher.find(self.id)
        if instance is None:
            raise _Ended("the replica was gone")
        return instance

    async def _until_healthy(self, instance: Instance) -> Residency:
        timeout = self._around.options.start_timeout
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._check_alive(instance)
            if address := instance.address():
                client = self._client or ReplicaClient(self._around.http, address, self._secret)
                self._client = client
                if await client.healthy():
                    self.upstream = Upstream(self.id, address, self._secret)
                    return Residency(client, self._around.locks, self._wanted, self.upstream.turn)
            await asyncio.sleep(_POLL_S)
        raise _Ended(f"the engine was not ready after {timeout:.0f} s")

    async def _watch(self, instance: Instance, residency: Residency) -> None:
        answered = probed = time.monotonic()
        while True:
            await self._pause(instance)
            healthy = self._client is not None and await self._client.healthy()
            if healthy is not self.answering:
                self.answering = healthy
                self._changed()
            if healthy:
                answered = time.monotonic()
                await self._settle(instance, residency)
                if answered - probed > self._around.options.probe_every:
                    await self._probe_when_idle(residency)
                    probed = time.monotonic()
            elif time.monotonic() - answered > self._around.options.hung_after:
                raise _Ended(f"the engine left health checks unanswered for {time.monotonic() - answered:.0f} s")

    async def _probe_when_idle(self, residency: Residency) -> None:
        """A health check can be answered by an engine that computes nothing any more. Raises _Ended."""
        if self.upstream is None or self.upstream.in_flight:
            return
        try:
            async with asyncio.timeout(self._around.options.hung_after):
                await residency.probe_base(self._base_name)
        except (LoradockError, TimeoutError) as error:
            raise _Ended(f"the engine is up and computes nothing: {error}") from error

    async def _settle(self, instance: Instance, residency: Residency) -> None:
        try:
            if await residency.settle():
                self._changed()
        except LoradockError as error:
            self._check_alive(instance)
            _log.warning("replica %s: %s", self.id, error.message)

    async def _pause(self, instance: Instance) -> None:
        """Until woken or a tick has passed. Raises _Ended as soon as the process is gone."""
        until = time.monotonic() + self._around.options.tick
        while time.monotonic() < until and not self._wake.is_set():
            self._check_alive(instance)
            with suppress(TimeoutError):
                # Not wait_for, which may swallow a cancellation before 3.12 (github.com/python/cpython/issues/86296).
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()
        self._wake.clear()
        self._check_alive(instance)

    def _check_alive(self, instance: Instance) -> None:
        if not instance.alive():
            raise _Ended(self._around.launcher.last_words(self.id))

    async def _fail(self, error: Exception) -> None:
        gone = self._instance is not None and not self._instance.alive()
        self.failure = self._around.launcher.last_words(self.id) if gone else str(error)
        if self._end is None:
            self.state = ReplicaState.FAILED

    async def _finish_surely(
        self, unroute: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]], drain: float
    ) -> None:
        """Nobody else ends it: what fails (a busy database, a process that will not die) is tried again."""
        while True:
            try:
                return await self._finish(unroute, done, drain)
            except Exception:
                _log.exception("replica %s could not be ended; it is tried again", self.id)
                await asyncio.sleep(self._around.options.tick)

    async def _finish(
        self, unroute: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]], drain: float
    ) -> None:
        await unroute()
        if self.upstream is not None:
            await self._let_finish(self.upstream, drain)
        await self._stop_living()
        if self._instance is not None:
            await asyncio.to_thread(self._instance.terminate, self._around.options.grace)
        await done()
        self._changed()

    async def _let_finish(self, upstream: Upstream, drain: float) -> None:
        self._patience = asyncio.timeout(drain)
        with suppress(TimeoutError):
            async with self._patience:
                await upstream.drained()
        self._patience = None

    async def _stop_living(self) -> None:
        if self._life:
            # Not while a launch is under way: the process would start unseen.
            await self._obtained.wait()
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
