"""Launching and ending the replicas of one deployment: their rows, run folders and supervisors."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session

from loradock.control.context import ControlContext
from loradock.control.fleet.lost_logs import LostLogs
from loradock.control.fleet.memory_budget import why_not
from loradock.control.fleet.pool import ReplicaPool
from loradock.control.fleet.recovery import AdoptedReplica
from loradock.control.fleet.spec import new_spec, settings_digest
from loradock.control.ledger import Ledger
from loradock.control.replicas.process import ReplicaProcess
from loradock.control.replicas.replica import Replica
from loradock.control.replicas.residency import ReadWanted
from loradock.control.replicas.supervisor import ReplicaSupervisor
from loradock.control.snapshot import Snapshot
from loradock.replicas.launcher import ReplicaSpec
from loradock.replicas.memory import plan_of
from loradock.store import tables
from loradock.store.events import record
from loradock.types.enums import ReplicaState


class Fleet:
    """Launches, looks after and ends the replicas of `pool`. `unroute` takes those that are no longer ready out of the
    route table."""

    def __init__(
        self,
        context: ControlContext,
        pool: ReplicaPool,
        wanted: ReadWanted,
        unroute: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
        ledger: Ledger,
    ) -> None:
        self._supervisors: dict[str, ReplicaSupervisor] = {}
        self._notes: list[tuple[str, str]] = []
        self._lost_logs = LostLogs(context.launcher)
        self._context = context
        self._pool = pool
        self._wanted = wanted
        self._unroute = unroute
        self._changed = changed
        self._ledger = ledger

    @property
    def logged(self) -> list[str]:
        """Replicas whose logs can be read: the last of the lost ones, then those that run."""
        lost = self._lost_logs.replica_ids
        return [*lost, *(replica_id for replica_id in self._pool.replicas if replica_id not in lost)]

    def take_notes(self) -> list[tuple[str, str]]:
        """Kind and message of what has happened to replicas since this was called last."""
        notes, self._notes = self._notes, []
        return notes

    def adopt(self, found: AdoptedReplica) -> ReplicaSupervisor:
        return self._supervise(found.replica_id, found.secret, found.base_name, found.settings, None)

    async def launch(self, snapshot: Snapshot, model: Path) -> str | None:
        """Returns why not, if the memory does not hold it just now. Raises ModelTooLarge if it never will."""
        options, memory = self._context.options, self._context.memory
        spec = await asyncio.to_thread(new_spec, snapshot, model, options)
        async with memory.planning:
            free = await memory.free()
            plan = await asyncio.to_thread(plan_of, spec, options.engine_arguments, free)
            memory.check_possible(plan)
            ready = [replica.process for replica in self._pool.ready]
            insufficient = await why_not(plan, free, ready, len(self._pool.starting))
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
            self._notes.append((note[0], f"{replica.id}: {note[1]}"))
        options = self._context.options
        drain = options.detach_drain if patient else options.drain
        self._supervisors[replica.id].end(
            self._unroute,
            lambda: self._forget(replica),
            drain if replica.state in (ReplicaState.READY, ReplicaState.DRAINING) else 0.0,
        )

    def end_all(self, *, patient: bool = False) -> None:
        for replica in list(self._pool.replicas.values()):
            self.end(replica, patient=patient)

    def look_at(self, replica_id: str) -> None:
        """Look at the replica now, and not at the next tick; if it is one of these."""
        if supervisor := self._supervisors.get(replica_id):
            supervisor.wake()

    def wake(self) -> None:
        for supervisor in self._supervisors.values():
            supervisor.wake()

    def wake_without(self, engine_name: str, path: Path) -> None:
        """Wake the supervisors of replicas that do not hold this adapter."""
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
        """Start a supervisor of a replica that is to be launched by `spec`, or runs already."""
        process = ReplicaProcess(self._context.launcher, replica_id, spec)
        supervisor = ReplicaSupervisor(
            Replica(replica_id, settings, process),
            secret,
            base_name,
            self._context,
            self._wanted,
            self._changed,
            lambda kind, message: self._notes.append((kind, message)),
        )
        self._pool.replicas[replica_id] = supervisor.replica
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
            self._lost_logs.keep(replica.id)
        self._pool.replicas.pop(replica.id, None)
        self._supervisors.pop(replica.id, None)
        self._context.memory.remove(replica.process)
