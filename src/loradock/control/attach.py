"""The attach transaction: what began is either routed at the end, or undone as if it had never been."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from loradock.control.claim import Claim, claim
from loradock.control.events import record
from loradock.control.keeper import Surroundings
from loradock.control.reconcile import DeploymentLoop
from loradock.control.residency import Residency
from loradock.endpoints.attachments import check_attachable, resolve_pair
from loradock.store.tables import Attachment
from loradock.types.enums import AttachmentState, AttachStep
from loradock.types.errors import AlreadyBound, Internal, LoradockError, NotBound

_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Attach:
    """One attach, run under the adapter's lock. `loop_of` gives the loop of a deployment."""

    def __init__(self, around: Surroundings, blobs: Path, loop_of: Callable[[str], DeploymentLoop]) -> None:
        self._around, self._blobs, self._loop_of = around, blobs, loop_of
        self._step = AttachStep.AUTHORIZE

    async def run(self, account_id: str, endpoint_ref: str, model_id: str) -> None:
        begun = await self._claim(account_id, endpoint_ref, model_id)
        loop = self._loop_of(begun.deployment_id)
        residencies = [keeper.residency for keeper in loop.fleet.ready if keeper.residency is not None]
        if begun.settled:
            _retry_refused(loop, residencies, begun.engine_name)
            return
        try:
            await self._bring(begun, residencies)
        except BaseException as error:
            await self._undo(begun, loop, residencies, error)
            if not isinstance(error, LoradockError):
                raise
            raise type(error)(
                f"attaching {begun.engine_name} failed at step '{self._step}': {error.message}. Nothing was changed",
                param="model_id",
            ) from error
        await loop.publish()
        loop.fleet.wake()

    async def _claim(self, account_id: str, endpoint_ref: str, model_id: str) -> Claim:
        most, blobs = self._around.options.max_attachments, self._blobs
        try:
            return await self._around.transact(
                lambda session: claim(session, account_id, endpoint_ref, model_id, blobs=blobs, most=most)
            )
        except IntegrityError:
            # Another attach, or a deletion, was quicker; usually its rule says which.
            await self._around.transact(
                lambda session: check_attachable(session, *resolve_pair(session, account_id, endpoint_ref, model_id))
            )
            raise AlreadyBound(param="model_id") from None

    async def _bring(self, begun: Claim, residencies: list[Residency]) -> None:
        self._step = AttachStep.STAGE
        missing = [file for file in _FILES if not (begun.path / file).is_file()]
        if missing:
            raise Internal(f"{', '.join(missing)} is missing in {begun.path}: upload the adapter again")
        self._step = AttachStep.LOAD
        await _everywhere(residency.load(begun.engine_name, begun.path) for residency in residencies)
        self._step = AttachStep.PROBE
        await _everywhere(residency.probe(begun.engine_name) for residency in residencies)
        self._step = AttachStep.ROUTE
        await self._around.transact(lambda session: _complete(session, begun, len(residencies)))

    async def _undo(
        self, begun: Claim, loop: DeploymentLoop, residencies: list[Residency], error: BaseException
    ) -> None:
        if not begun.revived:
            for residency in residencies:
                with suppress(LoradockError):  # the replica's keeper unloads what has no row
                    await residency.unload(begun.engine_name)
        reason = error.message if isinstance(error, LoradockError) else repr(error)
        await self._around.transact(lambda session: _revert(session, begun, f"{self._step} failed: {reason}"))
        loop.wake()


async def _everywhere(calls: Any) -> None:
    """All at once; every one has ended before the first error is raised, so that undoing meets nothing half done."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _retry_refused(loop: DeploymentLoop, residencies: list[Residency], name: str) -> None:
    for residency in residencies:
        residency.refused.pop(name, None)
    loop.wake()


def _complete(session: Session, begun: Claim, replicas: int) -> None:
    change = (
        update(Attachment)
        .where(Attachment.id == begun.attachment_id, Attachment.state == AttachmentState.ATTACHING)
        .values(state=AttachmentState.ATTACHED)
    )
    if cast("CursorResult[Any]", session.execute(change)).rowcount != 1:
        raise NotBound("the endpoint was deleted meanwhile")
    for step in (AttachStep.STAGE, AttachStep.LOAD, AttachStep.PROBE, AttachStep.ROUTE):
        where = f"{begun.engine_name} on {replicas} replica(s)" if replicas else "once the endpoint runs"
        record(session, begun.account_id, begun.model_id, f"attach.{step}", where)


def _revert(session: Session, begun: Claim, message: str) -> None:
    row = Attachment.id == begun.attachment_id
    if begun.revived:
        session.execute(update(Attachment).where(row).values(state=AttachmentState.DETACHING))
    else:
        session.execute(delete(Attachment).where(row))
    record(session, begun.account_id, begun.model_id, "attach.undone", message)
