"""Publishes to the gateway what it knows of a deployment, as the database and the replicas say."""

import asyncio
from pathlib import Path
from typing import Any

from loradock.control.context import ControlContext
from loradock.control.fleet.pool import ReplicaPool
from loradock.control.reconcile.routing import Back, is_crowded, routes_of
from loradock.control.replicas.residency import Wanted
from loradock.control.snapshot import AttachmentRecord, Snapshot, read_attachments, read_snapshot
from loradock.gateway.routing.routes import Route, RouteTable
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.types.enums import AttachmentState, DesiredState, EndpointState


class Publisher:
    """Reads a deployment and publishes its routes; one at a time, so that the newest reading wins.

    `seen` is the newest reading; None when there is no such deployment (yet, or any more).
    """

    def __init__(
        self,
        deployment_id: str,
        context: ControlContext,
        routes: RouteTable,
        pool: ReplicaPool,
        blobs: Path,
        repeats: Repeats,
    ) -> None:
        self.seen: Snapshot | None = None
        self._id = deployment_id
        self._context = context
        self._routes = routes
        self._pool = pool
        self._blobs = blobs
        self._repeats = repeats
        self._reading = f"deployment {deployment_id}: reading the database"
        self._shown: tuple[Any, ...] | None = None
        self._publishing = asyncio.Lock()

    async def wanted(self, engine_name: str | None) -> Wanted:
        """Return what replicas ought to hold, of all adapters or of one name; without the database, by the newest
        reading."""
        rows = await self._read_attachments(engine_name)
        attached = {row.engine_name: row.path for row in rows if row.state is AttachmentState.ATTACHED}
        leaving = [row.engine_name for row in rows if row.state is AttachmentState.DETACHING]
        return Wanted(attached, frozenset(leaving))

    async def _read_attachments(self, engine_name: str | None) -> tuple[AttachmentRecord, ...]:
        try:
            return await self._context.transact(
                lambda session: read_attachments(session, self._id, self._blobs, engine_name)
            )
        except DATABASE_FAILURES as error:
            if self.seen is None:
                raise
            self._repeats.failed(self._reading, error)
            return tuple(row for row in self.seen.attachments if engine_name in (None, row.engine_name))

    async def publish(self) -> Snapshot | None:
        """Returns the newest reading there is; without the database, only what replicas hold is brought up to date.
        Raises what the database does where there is none."""
        try:
            async with self._publishing:
                snapshot = await self._publish()
        except DATABASE_FAILURES as error:
            if self.seen is None:
                raise
            self._repeats.failed(self._reading, error)
            await self.publish_replicas()
            return self.seen
        self._repeats.worked(self._reading)
        return snapshot

    async def publish_replicas(self) -> None:
        """The same where only replicas, or what they hold, may have changed: nothing is read."""
        async with self._publishing:
            if self.seen is not None:
                self._show(self.seen)

    async def publish_adapter(self, row: AttachmentRecord) -> None:
        """The same where one adapter has changed and nothing else, and its attachment is this now: the caller holds
        the adapter's lock. Nothing is read."""
        async with self._publishing:
            if self.seen is None:
                await self._publish()
            else:
                before, self.seen = self.seen, self.seen.amended(row)
                self._amend(before, self.seen, row)

    def _amend(self, before: Snapshot, after: Snapshot, row: AttachmentRecord) -> None:
        if self._crowded(before) != self._crowded(after):
            self._show(after)
            return
        gone = [bound.engine_name for bound in before.attachments if bound.model_id == row.model_id]
        self._routes.amend(self._id, gone, self._routes_of(after, row.model_id)[1])

    async def _publish(self) -> Snapshot | None:
        self.seen = await self._context.transact(lambda session: read_snapshot(session, self._id, self._blobs))
        if self.seen is None:
            self._shown = None
            self._routes.withdraw(self._id)
        else:
            self._show(self.seen)
        return self.seen

    def _show(self, snapshot: Snapshot) -> None:
        """Publish routes only where something has changed: there may be thousands of them to make."""
        showing = self._what_to_show(snapshot)
        if showing != self._shown:
            self._routes.publish(self._id, *self._routes_of(snapshot))
            self._shown = showing

    def _what_to_show(self, snapshot: Snapshot) -> tuple[Any, ...]:
        """Return what the routes depend on."""
        return (
            snapshot,
            self._back(snapshot),
            [(k.id, k.upstream, k.health, k.residency and k.residency.version) for k in self._pool.ready],
        )

    def _routes_of(self, snapshot: Snapshot, model_id: str | None = None) -> tuple[Route, list[Route]]:
        ready = self._pool.ready if snapshot.desired is DesiredState.STARTED else []
        return routes_of(snapshot, ready, self._context.options.max_loras, self._back(snapshot), model_id)

    def _back(self, snapshot: Snapshot) -> Back:
        if snapshot.desired is not DesiredState.STARTED or snapshot.state is EndpointState.ERROR:
            return Back()
        return Back(self._pool.has_served or snapshot.state is EndpointState.STARTED, self._pool.back_at)

    def _crowded(self, snapshot: Snapshot) -> bool:
        return is_crowded(snapshot, self._context.options.max_loras)
