"""The loop of one deployment: see what is wanted and what is there, act once, sleep until woken or a tick."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from loradock.control.attach.detach import DetachWorker
from loradock.control.context import ControlContext
from loradock.control.fleet.fleet import Fleet
from loradock.control.fleet.pool import ReplicaPool
from loradock.control.fleet.restarts import Restarts
from loradock.control.fleet.rolling_update import end_surplus
from loradock.control.fleet.spec import settings_digest
from loradock.control.ledger import Ledger, Write
from loradock.control.reconcile.bases import BaseResolution, ResolveBase
from loradock.control.reconcile.event_recorder import EventRecorder
from loradock.control.reconcile.publishing import Publisher
from loradock.control.reconcile.routing import upstreams_of
from loradock.control.reconcile.sizing import Sizing
from loradock.control.replicas.residency import Wanted
from loradock.control.snapshot import AttachmentRecord, Snapshot
from loradock.control.views import ReplicaFacts
from loradock.endpoints.rules import set_desired
from loradock.gateway.routing.routes import RouteTable
from loradock.store.events import record
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.store.tables import Deployment
from loradock.telemetry.readings import Reading
from loradock.types.enums import AttachmentState, DesiredState, EndpointState, ReplicaState
from loradock.types.errors import ModelTooLarge

_log = logging.getLogger(__name__)


class DeploymentLoop:
    """Runs until its deployment was deleted and the last of its replicas is gone; `gone` is then true."""

    def __init__(
        self, deployment_id: str, context: ControlContext, routes: RouteTable, resolve: ResolveBase, blobs: Path
    ) -> None:
        self.id = deployment_id
        self.gone = False
        self._repeats = Repeats(_log)
        self._ledger = Ledger(context.transact, self._repeats, f"deployment {deployment_id}: writing to the database")
        self.pool = ReplicaPool()
        self.fleet = Fleet(context, self.pool, self._wanted, self.publish, self.wake, self._ledger)
        self._detaches = DetachWorker(context, self.pool, self.wake)
        self._publisher = Publisher(deployment_id, context, routes, self.pool, blobs)
        self._context = context
        self._resolve = resolve
        self._restarts = Restarts(context.options.restarts)
        self._sizing = Sizing(context.options)
        self._base: BaseResolution | None = None
        self._loss: str | None = None
        self._idle = False
        self._insufficient_memory: str | None = None
        self._reading = f"deployment {deployment_id}: reading the database"
        self._recorder = EventRecorder(self._ledger, self.pool)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        turn = f"deployment {self.id}: a turn"
        while not self.gone:
            self._woken.clear()
            try:
                await self._reconcile_once()
                self._repeats.worked(turn)
            except Exception as error:
                self._repeats.failed(turn, error, traceback=not isinstance(error, DATABASE_FAILURES))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._context.options.tick):
                    await self._woken.wait()

    async def publish(self) -> None:
        """Bring the route table up to the database and the replicas; without the database, to the replicas."""
        await self._look()

    async def write(self, work: Write) -> None:
        """Once the database takes it."""
        await self._ledger.write(work)

    async def publish_adapter(self, row: AttachmentRecord) -> None:
        """The same where nothing but this attachment has changed."""
        await self._publisher.publish_adapter(row)

    async def replicas(self) -> list[ReplicaFacts]:
        """What every replica is and holds, as they say it themselves."""
        return await asyncio.gather(*(replica.facts() for replica in list(self.pool.replicas.values())))

    def reading(self) -> Reading | None:
        """From memory; None when there is no such deployment (yet, or any more)."""
        seen = self._publisher.seen
        if seen is None:
            return None
        return Reading(
            endpoint_id=seen.endpoint.id,
            in_flight=sum(upstream.in_flight for upstream in upstreams_of(self.pool.replicas.values())),
            ready=len(self.pool.ready),
            starting=len(self.pool.starting),
            desired=self._sizing.current,
            attachments=len(seen.attached()),
        )

    async def shut_down(self, *, keep_replicas: bool) -> None:
        await self._detaches.cancel()
        await self.fleet.shut_down(keep_replicas=keep_replicas)

    async def _wanted(self, engine_name: str | None) -> Wanted:
        rows = await self._read_attachments(engine_name)
        attached = {row.engine_name: row.path for row in rows if row.state is AttachmentState.ATTACHED}
        leaving = [row.engine_name for row in rows if row.state is AttachmentState.DETACHING]
        return Wanted(attached, frozenset(leaving))

    async def _read_attachments(self, engine_name: str | None) -> tuple[AttachmentRecord, ...]:
        try:
            return await self._publisher.attachments(engine_name)
        except DATABASE_FAILURES as error:
            if (seen := self._publisher.seen) is None:
                raise
            self._repeats.failed(self._reading, error)
            return tuple(row for row in seen.attachments if engine_name in (None, row.engine_name))

    async def _look(self) -> Snapshot | None:
        """The newest reading there is. Raises what the database does where there is none."""
        try:
            snapshot = await self._publisher.publish()
        except DATABASE_FAILURES as error:
            if self._publisher.seen is None:
                raise
            self._repeats.failed(self._reading, error)
            await self._publisher.publish_replicas()
            return self._publisher.seen
        self._repeats.worked(self._reading)
        return snapshot

    async def _reconcile_once(self) -> None:
        await self._ledger.flush()
        snapshot = await self._look()
        if snapshot is None or snapshot.desired is DesiredState.STOPPED:
            await self._toward_stopped(snapshot)
        else:
            await self._reconcile_running(snapshot)
        if snapshot is not None:
            self._detaches.look(snapshot)
            await self._recorder.record(snapshot, self.fleet.take_notes(), self._sizing.current)
        self.fleet.wake()
        await self._publisher.publish_replicas()

    async def _toward_stopped(self, snapshot: Snapshot | None) -> None:
        self._base = None
        self._sizing.rest()
        self.fleet.end_all(patient=self._idle)
        if snapshot is None:
            self.gone = not self.pool.replicas
        elif self.pool.replicas:
            await self._become(snapshot, EndpointState.STOPPING)
        else:
            self._start_afresh()
            await self._become(snapshot, EndpointState.STOPPED)

    async def _reconcile_running(self, snapshot: Snapshot) -> None:
        self._idle = False
        reason = self._reap_failed(snapshot)
        wanted = self._sizing.wanted(snapshot, upstreams_of(self.pool.ready), len(self.pool.serving))
        if not self.pool.ready:
            self._sizing.stay_awake()
        elif self._sizing.idle_too_long(snapshot):
            await self._stop_idle(snapshot)
            return
        if snapshot.state is not EndpointState.ERROR and reason is None:
            reason = await self._match_count(snapshot, wanted)
        given_up = snapshot.state is EndpointState.ERROR
        if reason is not None:
            given_up = await self._become(snapshot, EndpointState.ERROR, reason)
        if given_up:
            self._start_afresh()
        if given_up or reason is not None:  # where that could not be told, it is tried again, after growing pauses
            self.fleet.end_all()
        else:
            await self._publisher.publish_replicas()  # before the owner is told that it can be called
            await self._become(snapshot, *self._observed(snapshot, wanted))

    def _reap_failed(self, snapshot: Snapshot) -> str | None:
        """Take leave of replicas that were lost. Returns why to give up, if it is time to: at once where none has ever
        been ready, else after several in a row."""
        served = snapshot.state is EndpointState.STARTED or any(k.ready_since for k in self.pool.replicas.values())
        self.pool.has_served = self.pool.has_served or served
        lost = self.pool.of_state(ReplicaState.FAILED)
        for replica in lost:
            self._restarts.note(begun=replica.begun, proven=replica.proven)
            self._loss = replica.failure
            self.fleet.end(replica, note=("replica.lost", replica.failure or "it ended"))
        hopeless = self._restarts.exhausted or not self.pool.has_served
        return self._loss if lost and hopeless and not self.pool.ready else None

    async def _match_count(self, snapshot: Snapshot, wanted: int) -> str | None:
        """Launch what is missing, end what is too much. Returns why it cannot be done, if so."""
        settings = settings_digest(snapshot, self._context.options)
        missing = end_surplus(self.pool, self.fleet, wanted, settings, snapshot.attached())
        if missing <= 0:
            self._insufficient_memory = None
        if missing <= 0 or not self._restarts.allowed:
            return None
        if self._base is None:
            base_model, account = snapshot.base_model, snapshot.endpoint.account
            self._base = BaseResolution(self._resolve, base_model, account, self.wake)
        elif self._base.path is not None:
            model, self._base, insufficient = self._base.path, None, None
            try:
                with suppress(IntegrityError):  # the deployment was deleted meanwhile
                    for _ in range(missing):
                        insufficient = insufficient or await self.fleet.launch(snapshot, model)
            except ModelTooLarge as error:
                if not self.pool.serving:
                    return error.message
                insufficient = error.message
            await self._record_insufficient_memory(snapshot, insufficient)
        return self._base.failure if self._base else None

    def _observed(self, snapshot: Snapshot, wanted: int) -> tuple[EndpointState, str | None]:
        if self.pool.ready:
            return EndpointState.STARTED, self._shortage(snapshot, wanted) or self._unready()
        if self._insufficient_memory and not self.pool.serving:
            return EndpointState.PENDING, self._insufficient_memory
        if self._base and not self.pool.serving:
            return EndpointState.PENDING, self._base.progress
        return EndpointState.STARTING, self._loss and f"restarting; the last replica ended: {self._loss}"

    def _shortage(self, snapshot: Snapshot, wanted: int) -> str | None:
        """What the owner of an endpoint that answers, but not with all it should have, has to know."""
        settings = settings_digest(snapshot, self._context.options)
        fresh = sum(replica.settings == settings for replica in self.pool.ready)
        if fresh >= wanted:
            self._loss = None
        ended = self._loss and f"the last one that did not ended: {self._loss}"
        reason = self._insufficient_memory or ended
        return reason and f"{fresh} of {wanted} replicas run as set; {reason}"

    def _unready(self) -> str | None:
        silent = [replica for replica in self.pool.ready if replica.shown_state is ReplicaState.UNREADY]
        if not silent:
            return None
        all_of_them = f"{len(silent)} of {len(self.pool.ready)} replicas get no new requests"
        return f"{all_of_them}; {silent[0].id}: {silent[0].unready_because}"

    async def _stop_idle(self, snapshot: Snapshot) -> None:
        minutes = snapshot.inactive_timeout

        def stop(session: Session) -> None:
            deployment = session.get(Deployment, self.id)
            if deployment is None or deployment.inactive_timeout != minutes:
                return
            set_desired(deployment, DesiredState.STOPPED)
            facts = snapshot.endpoint
            record(session, facts.account_id, facts.id, "endpoint.idle", f"no request for {minutes} minutes: stopping")

        await self._context.transact(stop)
        self._idle = True  # a request may have come in this very moment: it gets all the time it needs
        self.wake()

    async def _record_insufficient_memory(self, snapshot: Snapshot, reason: str | None) -> None:
        if reason and not self._insufficient_memory:
            await self._record(snapshot, snapshot.endpoint.id, "endpoint.insufficient_memory", reason)
        self._insufficient_memory = reason

    async def _record(self, snapshot: Snapshot, subject_id: str, kind: str, message: str) -> None:
        account_id = snapshot.endpoint.account_id
        await self._ledger.write(lambda session: record(session, account_id, subject_id, kind, message))

    def _start_afresh(self) -> None:
        self._base = None
        self._loss = None
        self.pool.has_served = False
        self._idle = False
        self._restarts.reset()

    async def _become(self, snapshot: Snapshot, state: EndpointState, message: str | None = None) -> bool:
        """Only if nobody has changed the deployment since it was read; else, and where it cannot be written, the next
        turn looks again. Returns whether it is known to be so."""
        if (snapshot.state, snapshot.message) == (state, message):
            return True
        if self._ledger.stuck:
            return False
        read = (Deployment.id == self.id, Deployment.desired == snapshot.desired, Deployment.state == snapshot.state)

        def write(session: Session) -> bool:
            change = update(Deployment).where(*read).values(state=state, message=message)
            changed = cast("CursorResult[Any]", session.execute(change)).rowcount == 1
            if changed and state is not snapshot.state:
                facts = snapshot.endpoint
                record(session, facts.account_id, facts.id, f"endpoint.{state.lower()}", message or state)
            return changed

        try:
            changed = await self._context.transact(write)
        except DATABASE_FAILURES as error:
            self._ledger.failed(error)
            return False
        if changed:
            await self.publish()
        else:
            self.wake()
        return changed
