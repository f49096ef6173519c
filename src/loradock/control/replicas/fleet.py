"""The replicas of one deployment: their rows, run folders and supervisors."""

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session

from loradock import __version__
from loradock.control.context import ControlContext
from loradock.control.ledger import Ledger
from loradock.control.options import ControlOptions
from loradock.control.replicas.liveness import Health
from loradock.control.replicas.memory_budget import why_not
from loradock.control.replicas.process import ReplicaProcess
from loradock.control.replicas.recovery import AdoptedReplica
from loradock.control.replicas.replica import Replica
from loradock.control.replicas.residency import ReadWanted
from loradock.control.replicas.supervisor import ReplicaSupervisor
from loradock.control.snapshot import Snapshot
from loradock.endpoints.hardware import gpus_of
from loradock.replicas.launcher import ReplicaSpec
from loradock.replicas.memory import plan_of
from loradock.store import tables
from loradock.store.events import record
from loradock.types.enums import EngineKind, ReplicaState, quantization_in_effect
from loradock.types.names import new_id

_OUTDATED = ("replica.replaced", "it was started with other settings")
_KEPT_LOGS = 5
_SURGE = 1
"""Replicas beyond the wanted number while old ones are being replaced."""


class Fleet:
    """`unroute` takes replicas that are no longer ready out of the route table."""

    def __init__(
        self,
        context: ControlContext,
        wanted: ReadWanted,
        unroute: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
        ledger: Ledger,
    ) -> None:
        self.replicas: dict[str, Replica] = {}
        self._supervisors: dict[str, ReplicaSupervisor] = {}
        self._logs: deque[str] = deque()
        self._took: float | None = None
        self.has_served = False
        """Whether a replica has been ready since it was begun."""
        self.notes: list[tuple[str, str]] = []
        """Kind and message of what happened to replicas and is not recorded yet."""
        self._context = context
        self._wanted = wanted
        self._unroute = unroute
        self._changed = changed
        self._ledger = ledger

    def of_state(self, *states: ReplicaState) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.state in states]

    @property
    def ready(self) -> list[Replica]:
        return self.of_state(ReplicaState.READY)

    @property
    def answering(self) -> list[Replica]:
        """Those of the ready ones that answer just now; all of them if none does."""
        return [replica for replica in self.ready if replica.health is Health.READY] or self.ready

    @property
    def back_at(self) -> float | None:
        """When the next replica should be ready (of time.monotonic), by how long the last one took."""
        took = [k.ready_since - k.begun for k in self.replicas.values() if k.ready_since is not None]
        self._took = took[-1] if took else self._took
        begun = [replica.begun for replica in self.of_state(ReplicaState.STARTING)]
        return None if self._took is None or not begun else min(begun) + self._took

    @property
    def serving(self) -> list[Replica]:
        """Those that are, or will be, of use."""
        return self.of_state(ReplicaState.STARTING, ReplicaState.READY)

    @property
    def logged(self) -> list[str]:
        """Replicas whose logs can be read: the last of the lost ones, then those that run."""
        return [*self._logs, *(replica for replica in self.replicas if replica not in self._logs)]

    def adopt(self, found: AdoptedReplica) -> ReplicaSupervisor:
        return self._supervise(found.replica_id, found.secret, found.base_name, found.settings, None)

    async def launch(self, snapshot: Snapshot, model: Path) -> str | None:
        """Returns why not, if the memory does not hold it just now. Raises ModelTooLarge if it never will."""
        spec = self._spec(snapshot, model, await asyncio.to_thread(gpus_of, snapshot.hardware))
        memory = self._context.memory
        async with memory.planning:
            free = await memory.free()
            plan = await asyncio.to_thread(plan_of, spec, self._context.options.engine_arguments, free)
            memory.check_possible(plan)
            ready = [replica.process for replica in self.ready]
            insufficient = await why_not(plan, free, ready, len(self.of_state(ReplicaState.STARTING)))
            if insufficient is None:
                await self._launch(snapshot, replace(spec, memory=plan))
        return insufficient

    async def _launch(self, snapshot: Snapshot, spec: ReplicaSpec) -> None:
        """The row first: whatever happens next, the next server finds the process and adopts it. One that it finds
        without a row, which could not be written, it ends. Raises IntegrityError when the deployment is gone."""
        settings = settings_digest(snapshot, self._context.options)
        facts = snapshot.endpoint

        def begin(session: Session) -> None:
            row = tables.Replica(id=spec.id, deployment_id=snapshot.id, secret=spec.secret, settings=settings)
            session.add(row)
            record(session, facts.account_id, facts.id, "replica.launched", spec.id)

        await self._ledger.write(begin)
        await self._ledger.make_room()  # it writes where it can be found
        self._supervise(spec.id, spec.secret, snapshot.endpoint.name, settings, spec)

    def end(self, replica: Replica, *, patient: bool = False, note: tuple[str, str] | None = None) -> None:
        """Running requests may finish; `patient`: for as long as a detach gives them. `note`: an event's kind, and
        why."""
        if note is not None:
            self.notes.append((note[0], f"{replica.id}: {note[1]}"))
        options = self._context.options
        drain = options.detach_drain if patient else options.drain
        self._supervisors[replica.id].end(
            self._unroute,
            lambda: self._forget(replica),
            drain if replica.state in (ReplicaState.READY, ReplicaState.DRAINING) else 0.0,
        )

    def end_all(self, *, patient: bool = False) -> None:
        for replica in list(self.replicas.values()):
            self.end(replica, patient=patient)

    def fit(self, wanted: int, settings: str, attached: dict[str, Path]) -> int:
        """End what is too much; returns how many to launch.

        A replica started with other settings is replaced, one at a time: the new one is ready, with all that is
        `attached`, before the old one goes, so that there are never fewer than `wanted`.
        """
        self._end_stale(wanted, settings, attached)
        fresh = [replica for replica in self.serving if replica.settings == settings]
        by_use = sorted(fresh, key=lambda replica: replica.ready_since or float("inf"), reverse=True)
        for replica in by_use[: max(0, len(fresh) - wanted)]:
            self.end(replica, patient=True, note=("replica.ended", "no longer needed"))
        room = wanted + _SURGE - len(self.serving) if len(self.serving) > len(fresh) else wanted
        return max(0, min(wanted - len(fresh), room))

    def _end_stale(self, wanted: int, settings: str, attached: dict[str, Path]) -> None:
        stale = [replica for replica in self.serving if replica.settings != settings]
        if not stale:
            return
        spare = sum(replica.settings != settings or replica.serves(attached) for replica in self.ready) - wanted
        for replica in stale:
            if replica.state is ReplicaState.STARTING:
                self.end(replica, note=_OUTDATED)
            elif spare > 0:
                self.end(replica, patient=True, note=_OUTDATED)
                spare -= 1

    def look_at(self, replica_id: str) -> None:
        """Now, and not at the next tick; if it is one of these."""
        if supervisor := self._supervisors.get(replica_id):
            supervisor.wake()

    def wake(self) -> None:
        for supervisor in self._supervisors.values():
            supervisor.wake()

    def wake_without(self, engine_name: str, path: Path) -> None:
        """Those that do not hold this adapter."""
        for supervisor in self._supervisors.values():
            if not supervisor.replica.holds(engine_name, path):
                supervisor.wake()

    async def shut_down(self, *, keep_replicas: bool) -> None:
        supervisors = list(self._supervisors.values())
        if not keep_replicas:
            self.end_all()
        await asyncio.gather(
            *(supervisor.leave() if keep_replicas else supervisor.ended() for supervisor in supervisors)
        )

    def _supervise(
        self, replica_id: str, secret: str, base_name: str, settings: str | None, spec: ReplicaSpec | None
    ) -> ReplicaSupervisor:
        """Of one that is to be launched by `spec`, or runs already."""
        process = ReplicaProcess(self._context.launcher, replica_id, spec)
        supervisor = ReplicaSupervisor(
            Replica(replica_id, settings, process),
            secret,
            base_name,
            self._context,
            self._wanted,
            self._changed,
            lambda kind, message: self.notes.append((kind, message)),
        )
        self.replicas[replica_id] = supervisor.replica
        self._supervisors[replica_id] = supervisor
        self._context.memory.add(process)
        supervisor.start()
        return supervisor

    async def _forget(self, replica: Replica) -> None:
        def remove(session: Session) -> None:
            session.execute(delete(tables.Replica).where(tables.Replica.id == replica.id))

        await self._ledger.write(remove)
        if replica.failure is None:
            self._context.launcher.discard(replica.id)
        else:
            self._keep_log(replica.id)
        self.replicas.pop(replica.id, None)
        self._supervisors.pop(replica.id, None)
        self._context.memory.remove(replica.process)

    def _keep_log(self, replica_id: str) -> None:
        """Those of the last lost replicas stay until the next start of the server, for whoever looks for the reason."""
        self._logs.append(replica_id)
        while len(self._logs) > _KEPT_LOGS:
            self._context.launcher.discard(self._logs.popleft())

    def _spec(self, snapshot: Snapshot, model: Path, gpus: tuple[int, tuple[int, ...]]) -> ReplicaSpec:
        return ReplicaSpec(
            id=new_id("rep"),
            secret=secrets.token_hex(24),
            model=model,
            served_names=(snapshot.endpoint.name, snapshot.endpoint.id, snapshot.base_model),
            lora_enabled=snapshot.lora_enabled,
            max_lora_rank=snapshot.max_lora_rank,
            max_loras=self._context.options.max_loras,
            max_cpu_loras=self._context.options.max_cpu_loras,
            threads=self._context.options.threads,
            quantization=quantization_in_effect(snapshot.quantization, self._context.options.quantization),
            shares_cpu=snapshot.max_replicas > 1,
            engine=snapshot.engine,
            gpus=gpus[0],
            devices=gpus[1],
        )


def settings_digest(snapshot: Snapshot, options: ControlOptions) -> str:
    """Of all that a replica is started with; a replica with another digest has to be replaced."""
    embedded = snapshot.engine is EngineKind.EMBEDDED
    facts = (
        __version__,
        snapshot.endpoint.name,
        snapshot.base_model,
        snapshot.engine,
        snapshot.hardware,
        snapshot.lora_enabled,
        snapshot.max_lora_rank,
        options.max_loras,
        options.max_cpu_loras,
        options.threads,
        quantization_in_effect(snapshot.quantization, options.quantization) if embedded else None,
        options.engine_arguments if embedded else options.vllm_arguments,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()
