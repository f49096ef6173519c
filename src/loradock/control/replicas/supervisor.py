"""One replica from its launch (or its being found again) to its end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loradock.checkpoints.memory_plan import MemoryPlan
from loradock.control.awake import AwakeClock
from loradock.control.options import ControlOptions
from loradock.control.replicas.liveness import Health, Patience
from loradock.control.replicas.memory_budget import Memory
from loradock.control.replicas.residency import ReadWanted, Residency
from loradock.control.replicas.tending import Tending
from loradock.control.replicas.watcher import Watcher
from loradock.control.work import Locks, Transactions
from loradock.gateway.routing.upstream import Upstream
from loradock.replicas.client import ReplicaClient
from loradock.replicas.http import ReplicaHttp
from loradock.replicas.launcher import Ending, Instance, Launcher, ProcessUse, ReplicaSpec
from loradock.types.enums import AdapterTier, Fate, ReplicaState
from loradock.types.errors import LoradockError, ReplicaLost

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_PROVEN_S = 60.0
_TIERS_S = 3.0
_GOING_S = 3.0
"""How long a process may take to be seen to end after its connections have broken."""


@dataclass(frozen=True, slots=True)
class ControlContext:
    """What every part of the control loop works with."""

    transact: Transactions
    launcher: Launcher
    http: ReplicaHttp
    options: ControlOptions
    locks: Locks
    awake: AwakeClock
    memory: Memory


class _Ended(Exception):
    """The replica is of no more use; the text says why."""

    def __init__(self, why: str, fate: Fate = Fate.UNKNOWN) -> None:
        super().__init__(why)
        self.fate = fate


class ReplicaSupervisor:
    """Keeps one replica healthy and its adapters as wanted; calls `changed` when others should look, and `note` with
    the kind of an event and its message.

    `settled` is set once its start has succeeded or failed.
    """

    def __init__(
        self,
        replica_id: str,
        secret: str,
        base_name: str,
        settings: str | None,
        context: ControlContext,
        wanted: ReadWanted,
        changed: Callable[[], None],
        note: Callable[[str, str], None],
    ) -> None:
        self.id = replica_id
        self.settings = settings
        self.state = ReplicaState.STARTING
        self.upstream: Upstream | None = None
        self.residency: Residency | None = None
        self.failure: str | None = None
        self.begun = time.monotonic()
        self.ready_since: float | None = None
        self.health = Health.STARTING
        self.unready_because: str | None = None
        """As it was told when its health changed last."""
        self._secret = secret
        self._base_name = base_name
        self._context = context
        self._wanted = wanted
        self._changed = changed
        self._note = note
        self._client: ReplicaClient | None = None
        self._instance: Instance | None = None
        self._watcher: Watcher | None = None
        self._plan: MemoryPlan | None = None
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

    @property
    def resident(self) -> int:
        """Bytes of memory that it took when it was last looked at."""
        return self._watcher.use.resident if self._watcher else 0

    @property
    def shown_state(self) -> ReplicaState:
        """READY only while it is known to get on."""
        ready = self.state is ReplicaState.READY
        return ReplicaState.UNREADY if ready and self.health is Health.UNREADY else self.state

    @property
    def trouble(self) -> str | None:
        """Why it failed, or is not ready."""
        return self.failure or (self.unready_because if self.shown_state is ReplicaState.UNREADY else None)

    @property
    def plan(self) -> MemoryPlan | None:
        """How much memory it was, or will be, started to take."""
        return self._plan

    def use(self) -> ProcessUse:
        """What it takes of this machine; nothing once it is gone. Blocks."""
        return self._instance.look() if self._instance else ProcessUse()

    def start(self, spec: ReplicaSpec | None) -> None:
        """Launch by `spec`; without one, adopt what already runs."""
        self._plan = spec.memory if spec else None
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
            self._end = asyncio.create_task(self._terminate_with_retry(unroute, done, drain))

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

    def _become_ready(self, residency: Residency) -> None:
        self.residency = residency
        if self._watcher:
            self._watcher.liveness.started()
            self.health = self._watcher.liveness.health
        if self.state is ReplicaState.STARTING:
            self.state = ReplicaState.READY
            self.ready_since = time.monotonic()
            self.settled.set()
            self._changed()

    def _obtain(self, spec: ReplicaSpec | None) -> Instance:
        launcher = self._context.launcher
        instance = launcher.launch(spec) if spec else launcher.find(self.id)
        if instance is None:
            raise _Ended("the replica was gone")
        self._plan = instance.plan
        return instance

    async def _until_healthy(self, instance: Instance) -> Residency:
        timeout, clock = self._context.options.start_timeout, self._context.awake
        deadline = clock.now() + timeout
        while clock.now() < deadline:
            self._check_alive(instance)
            if address := instance.address():
                check_timeout = self._context.options.check_timeout
                client = self._client or ReplicaClient(self._context.http, address, self._secret, check_timeout)
                self._client = client
                if await client.healthy():
                    self.upstream = Upstream(self.id, address, self._secret)
                    return Residency(client, self._context.locks, self._wanted, self.upstream.turn)
            await asyncio.sleep(_POLL_S)
        raise _Ended(f"the engine was not ready after {timeout:.0f} s", Fate.STUCK)

    async def _watch(self, instance: Instance, residency: Residency) -> None:
        """Looks and tends side by side: what is wanted of an engine that is stuck does not end."""
        assert self._client is not None and self.upstream is not None
        upstream, options = self.upstream, self._context.options
        patience = Patience(options.unready_after, options.hung_after, options.hung_after * options.stretch)
        watcher = Watcher(instance, self._client, self._context.awake, patience, lambda: upstream.in_flight)
        self._watcher = watcher
        signals = (self._changed, self.wake, self._become_ready)
        async with Tending(residency, self._base_name, upstream, options, self._context.awake, *signals) as tending:
            tending.go_on()
            while True:
                await self._pause(instance)
                health = await watcher.look()
                self._notice(health, watcher)
                if health in (Health.STARTING, Health.READY):
                    tending.go_on()

    def _notice(self, health: Health, watcher: Watcher) -> None:
        before, self.health = self.health, health
        if health is before:
            return
        self.unready_because = why = watcher.liveness.reason
        _log.info("replica %s: %s → %s %s", self.id, before.name, health.name, why)
        if health is Health.LOST:
            raise _Ended(why, watcher.fate)
        if health is Health.UNREADY:
            self._note("replica.unready", f"{self.id} gets no new requests: {why}")
        elif before is Health.UNREADY:
            self._note("replica.recovered", f"{self.id} gets requests again")
        self._changed()

    async def _pause(self, instance: Instance) -> None:
        """Until woken or a tick has passed. Raises _Ended as soon as the process is gone."""
        until = time.monotonic() + self._context.options.tick
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
            ending = instance.ending()
            raise _Ended(ending.reason, ending.fate)

    async def _fail(self, error: Exception) -> None:
        ending = await self._ending(_GOING_S if isinstance(error, ReplicaLost) else 0.0)
        self.failure = ending.reason if ending else str(error) or type(error).__name__
        if self.upstream is not None:
            self.upstream.lose(ending.fate if ending else getattr(error, "fate", Fate.UNKNOWN))
        if self._end is None:
            self.state = ReplicaState.FAILED

    async def _ending(self, patience: float) -> Ending | None:
        """Of its process, if it has ended or does so within `patience` seconds."""
        deadline = time.monotonic() + patience
        while self._instance is not None:
            if not self._instance.alive():
                return self._instance.ending()
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(_POLL_S)
        return None

    async def _terminate_with_retry(
        self, unroute: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]], drain: float
    ) -> None:
        """Nobody else ends it: what fails (a busy database, a process that will not die) is tried again."""
        while True:
            try:
                return await self._finish(unroute, done, drain)
            except Exception:
                _log.exception("replica %s could not be ended; it is tried again", self.id)
                await asyncio.sleep(self._context.options.tick)

    async def _finish(
        self, unroute: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]], drain: float
    ) -> None:
        await unroute()
        if self.upstream is not None:
            await self._let_finish(self.upstream, drain)
        await self._cancel_supervision()
        if self.upstream is not None:
            self.upstream.lose(Fate.KILLED)
        if self._instance is not None:
            await asyncio.to_thread(self._instance.terminate, self._context.options.grace)
        await done()
        self._changed()

    async def _let_finish(self, upstream: Upstream, drain: float) -> None:
        self._patience = asyncio.timeout(drain)
        with suppress(TimeoutError):
            async with self._patience:
                await upstream.drained()
        self._patience = None

    async def _cancel_supervision(self) -> None:
        if self._life:
            # Not while a launch is under way: the process would start unseen.
            await self._obtained.wait()
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
