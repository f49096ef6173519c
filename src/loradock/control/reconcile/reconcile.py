"""The loop of one deployment: see what is wanted and what is there, act once, sleep until woken or a tick."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from loradock.control.attach.detach import DetachWorker
from loradock.control.context import ControlContext
from loradock.control.fleet.fleet import Fleet
from loradock.control.fleet.pool import ReplicaPool
from loradock.control.ledger import Ledger, Write
from loradock.control.reconcile.bases import ResolveBase
from loradock.control.reconcile.event_recorder import EventRecorder
from loradock.control.reconcile.idle import stop_idle
from loradock.control.reconcile.provisioning import Provisioner
from loradock.control.reconcile.publishing import Publisher
from loradock.control.reconcile.routing import upstreams_of
from loradock.control.reconcile.sizing import Sizing
from loradock.control.reconcile.status import StatusWriter, observed
from loradock.control.snapshot import AttachmentRecord, Snapshot
from loradock.control.views import ReplicaFacts
from loradock.gateway.routing.routes import RouteTable
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.telemetry.readings import Reading
from loradock.types.enums import DesiredState, EndpointState

_log = logging.getLogger(__name__)


class DeploymentLoop:
    """Runs until its deployment was deleted and the last of its replicas is gone; `gone` is then true."""

    def __init__(
        self, deployment_id: str, context: ControlContext, routes: RouteTable, resolve: ResolveBase, blobs: Path
    ) -> None:
        self.id = deployment_id
        self.gone = False
        self._context = context
        self._repeats = Repeats(_log)
        self._ledger = Ledger(context.transact, self._repeats, f"deployment {deployment_id}: writing to the database")
        self.pool = ReplicaPool()
        self._publisher = Publisher(deployment_id, context, routes, self.pool, blobs, self._repeats)
        self.fleet = Fleet(context, self.pool, self._publisher.wanted, self.publish, self.wake, self._ledger)
        self._provisioner = Provisioner(context, self.pool, self.fleet, self._ledger, resolve, self.wake)
        self._status = StatusWriter(context.transact, self._ledger, self.publish, self.wake)
        self._sizing = Sizing(context.options)
        self._detaches = DetachWorker(context, self.pool, self.wake)
        self._recorder = EventRecorder(self._ledger, self.pool)
        self._idle = False
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
        await self._publisher.publish()

    async def write(self, work: Write) -> None:
        """Write once the database takes it."""
        await self._ledger.write(work)

    async def publish_adapter(self, row: AttachmentRecord) -> None:
        """The same where nothing but this attachment has changed."""
        await self._publisher.publish_adapter(row)

    async def replicas(self) -> list[ReplicaFacts]:
        """Return what every replica is and holds, as they say it themselves."""
        return await asyncio.gather(*(replica.facts() for replica in list(self.pool.replicas.values())))

    def reading(self) -> Reading | None:
        """Return the reading from memory; None when there is no such deployment (yet, or any more)."""
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

    async def _reconcile_once(self) -> None:
        await self._ledger.flush()
        snapshot = await self._publisher.publish()
        if snapshot is None or snapshot.desired is DesiredState.STOPPED:
            await self._toward_stopped(snapshot)
        else:
            await self._reconcile_running(snapshot)
        if snapshot is not None:
            self._detaches.refresh(snapshot)
            await self._recorder.record(snapshot, self.fleet.take_notes(), self._sizing.current)
        self.fleet.wake()
        await self._publisher.publish_replicas()

    async def _toward_stopped(self, snapshot: Snapshot | None) -> None:
        self._provisioner.pause()
        self._sizing.rest()
        self.fleet.end_all(patient=self._idle)
        if snapshot is None:
            self.gone = not self.pool.replicas
        elif self.pool.replicas:
            await self._status.become(snapshot, EndpointState.STOPPING)
        else:
            self._start_afresh()
            await self._status.become(snapshot, EndpointState.STOPPED)

    async def _reconcile_running(self, snapshot: Snapshot) -> None:
        self._idle = False
        reason = self._provisioner.reap_lost(snapshot)
        wanted = self._sizing.wanted(snapshot, upstreams_of(self.pool.ready), len(self.pool.serving))
        if not self.pool.ready:
            self._sizing.stay_awake()
        elif self._sizing.idle_too_long(snapshot):
            await self._stop_idle(snapshot)
            return
        if snapshot.state is not EndpointState.ERROR and reason is None:
            reason = await self._provisioner.match_count(snapshot, wanted)
        given_up = snapshot.state is EndpointState.ERROR
        if reason is not None:
            given_up = await self._status.become(snapshot, EndpointState.ERROR, reason)
        if given_up:
            self._start_afresh()
        if given_up or reason is not None:  # where that could not be told, it is tried again, after growing pauses
            self.fleet.end_all()
        else:
            await self._publisher.publish_replicas()  # before the owner is told that it can be called
            await self._status.become(snapshot, *observed(snapshot, self.pool, self._provisioner, wanted))

    async def _stop_idle(self, snapshot: Snapshot) -> None:
        await self._context.transact(lambda session: stop_idle(session, snapshot))
        self._idle = True  # a request may have come in this very moment: it gets all the time it needs
        self.wake()

    def _start_afresh(self) -> None:
        self._idle = False
        self._provisioner.start_afresh()
