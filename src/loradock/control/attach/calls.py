"""Attach and detach as callers ask for them: one at a time for each adapter, and to their end."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from loradock.control.attach.attach import Attach, Settle
from loradock.control.background import BackgroundTasks
from loradock.control.context import ControlContext
from loradock.control.reconcile.reconcile import DeploymentLoop
from loradock.control.snapshot import AttachmentRecord
from loradock.control.work import Transactions
from loradock.endpoints.attachments import adapter_name, check_detachable, resolve_pair
from loradock.endpoints.rules import find_endpoint
from loradock.store.events import Facts, record
from loradock.types.enums import AttachmentState
from loradock.types.names import combined_id


class AdapterCalls:
    """A call runs to its end even when its caller is cancelled because its client has left."""

    def __init__(
        self,
        context: ControlContext,
        transact: Transactions,
        blobs: Path,
        loop_of: Callable[[str], DeploymentLoop],
        settle: Settle | None,
        background: BackgroundTasks,
    ) -> None:
        self._context = context
        self._transact = transact
        self._blobs = blobs
        self._loop_of = loop_of
        self._settle = settle
        self._background = background

    async def attach(self, account_id: str, endpoint_ref: str, model_id: str) -> str:
        """Attach as Controller.attach does."""
        return await asyncio.shield(self._background.begin(self._attach(account_id, endpoint_ref, model_id)))

    async def attach_by_name(self, account_id: str, adapter: str, endpoint_ref: str) -> None:
        """Attach as Controller.attach_by_name does."""
        endpoint = await self._transact(lambda session: find_endpoint(session, account_id, endpoint_ref).name)
        await self.attach(account_id, endpoint_ref, combined_id(endpoint, adapter))

    async def detach(self, account_id: str, endpoint_ref: str, model_id: str) -> str:
        """Detach as Controller.detach does."""
        return await asyncio.shield(self._background.begin(self._detach(account_id, endpoint_ref, model_id)))

    async def _attach(self, account_id: str, endpoint_ref: str, model_id: str) -> str:
        adapter = await self._adapter(account_id, endpoint_ref, model_id)
        async with self._context.locks[adapter]:
            attach = Attach(self._context, self._transact, self._blobs, self._loop_of, self._settle)
            await attach.run(account_id, endpoint_ref, model_id)
        return adapter

    async def _detach(self, account_id: str, endpoint_ref: str, model_id: str) -> str:
        adapter = await self._adapter(account_id, endpoint_ref, model_id)
        async with self._context.locks[adapter]:
            deployment_id, row = await self._transact(
                lambda session: _mark_leaving(session, account_id, endpoint_ref, model_id, self._blobs), make_room=True
            )
            loop = self._loop_of(deployment_id)
            await loop.publish_adapter(row)
            loop.wake()
        return adapter

    async def _adapter(self, account_id: str, endpoint_ref: str, model_id: str) -> str:
        return await self._transact(lambda session: adapter_name(session, account_id, endpoint_ref, model_id))


def _mark_leaving(
    session: Session, account_id: str, endpoint_ref: str, model_id: str, blobs: Path
) -> tuple[str, AttachmentRecord]:
    """The deployment, and what becomes of the attachment."""
    endpoint, adapter = resolve_pair(session, account_id, endpoint_ref, model_id)
    row = check_detachable(session, endpoint, adapter)
    row.state = AttachmentState.DETACHING
    facts = Facts(adapter=adapter.name, endpoint=endpoint.name)
    message = f"{adapter.name} leaves {endpoint.name}"
    record(session, account_id, adapter.id, "detach.begun", message, endpoint_id=endpoint.id, facts=facts)
    return row.deployment_id, AttachmentRecord(
        row.id, adapter.id, row.engine_name, blobs / row.revision.digest, row.state
    )
