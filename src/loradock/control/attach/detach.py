"""Finishing detachments: once DETACHING and unrouted, wait for running requests, unload, verify, drop the row."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import delete
from sqlalchemy.orm import Session

from loradock.control.context import ControlContext
from loradock.control.fleet.pool import ReplicaPool
from loradock.control.replicas.replica import Replica
from loradock.control.snapshot import AttachmentRecord, Snapshot
from loradock.gateway.routing.routes import EndpointFacts
from loradock.store.events import Facts, record
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.store.tables import Attachment
from loradock.types.enums import AttachmentState, ReplicaState
from loradock.types.errors import LoradockError, Unavailable

_log = logging.getLogger(__name__)


class DetachWorker:
    """Runs a background task per DETACHING attachment. What fails is tried again at the next look."""

    def __init__(self, context: ControlContext, pool: ReplicaPool, changed: Callable[[], None]) -> None:
        self._context = context
        self._pool = pool
        self._changed = changed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._repeats = Repeats(_log)

    def refresh(self, snapshot: Snapshot) -> None:
        self._tasks = {id_: task for id_, task in self._tasks.items() if not task.done()}
        for row in snapshot.attachments:
            if row.state is AttachmentState.DETACHING and row.id not in self._tasks:
                self._tasks[row.id] = asyncio.create_task(self._try(row, snapshot.endpoint))

    async def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _try(self, row: AttachmentRecord, endpoint: EndpointFacts) -> None:
        what = f"detaching {row.engine_name}"
        try:
            await self._finish(row, endpoint)
            self._repeats.worked(what)
        except Exception as error:
            self._repeats.failed(what, error, traceback=not isinstance(error, (LoradockError, *DATABASE_FAILURES)))

    async def _finish(self, row: AttachmentRecord, endpoint: EndpointFacts) -> None:
        await asyncio.gather(*(self._drained(replica, row.engine_name) for replica in self._pool.replicas.values()))
        async with self._context.locks[row.engine_name]:
            if not await self._context.transact(lambda session: _leaving(session, row.id)):
                return  # attached again meanwhile
            for replica in list(self._pool.replicas.values()):
                await _unload(replica, row.engine_name)
            await self._context.transact(lambda session: _drop(session, row, endpoint), make_room=True)
        self._changed()

    async def _drained(self, replica: Replica, name: str) -> None:
        if replica.upstream is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._context.options.detach_drain):
                    await replica.upstream.drained(name)


async def _unload(replica: Replica, name: str) -> None:
    residency = replica.residency
    if residency is None or replica.state is ReplicaState.FAILED:
        return
    await residency.unload(name)
    await residency.refresh()
    if name in residency.held:
        raise Unavailable(f"replica {replica.id} still lists it after unloading it")


def _leaving(session: Session, attachment_id: str) -> bool:
    row = session.get(Attachment, attachment_id)
    return row is not None and row.state is AttachmentState.DETACHING


def _drop(session: Session, row: AttachmentRecord, endpoint: EndpointFacts) -> None:
    session.execute(delete(Attachment).where(Attachment.id == row.id))
    facts = Facts(adapter=row.engine_name, endpoint=endpoint.name, unloaded=True)
    message = f"{row.engine_name} is unloaded"
    record(session, endpoint.account_id, row.model_id, "detach.done", message, endpoint_id=endpoint.id, facts=facts)
