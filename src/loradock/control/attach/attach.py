"""The attach transaction: what began is either routed at the end, or undone as if it had never been."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

from sqlalchemy import CursorResult, Table, bindparam, delete, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from loradock.control.attach.claim import Claim, claim
from loradock.control.attach.steps import AttachProgress, StepResult
from loradock.control.context import ControlContext
from loradock.control.fleet.pool import ReplicaPool
from loradock.control.reconcile.reconcile import DeploymentLoop
from loradock.control.replicas.replica import Replica
from loradock.control.replicas.residency import Residency
from loradock.control.work import Transactions
from loradock.endpoints.attachments import check_attachable, resolve_pair
from loradock.store.events import Facts, record, record_all
from loradock.store.tables import Attachment, now
from loradock.types.enums import AttachmentState, AttachStep, EngineKind, ReplicaState
from loradock.types.errors import AlreadyBound, Internal, LoradockError, NotBound, ReplicaLost

_VISIBLE = (AttachStep.STAGE, AttachStep.LOAD, AttachStep.PROBE, AttachStep.ROUTE)
log = logging.getLogger(__name__)
_ATTACHED = (
    update(cast("Table", Attachment.__table__))
    .where(Attachment.id == bindparam("attachment"), Attachment.state == AttachmentState.ATTACHING)
    .values(state=AttachmentState.ATTACHED)
)
_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Settle(Protocol):
    """The signature of `registry.settling.Settler.for_attach`."""

    def __call__(self, account_id: str, model_id: str, folder: Path, base_name: str, /, *, look: bool) -> Path: ...


class Attach:
    """Attaches one adapter, under its lock. `transact` is for what the caller waits for, `loop_of` gives the loop of a
    deployment."""

    def __init__(
        self,
        context: ControlContext,
        transact: Transactions,
        blobs: Path,
        loop_of: Callable[[str], DeploymentLoop],
        settle: Settle | None = None,
    ) -> None:
        self._context = context
        self._transact = transact
        self._blobs = blobs
        self._loop_of = loop_of
        self._settle = settle
        self._step = AttachStep.AUTHORIZE
        self._tried: list[Replica] = []
        self._told: set[AttachStep] = set()

    async def run(self, account_id: str, endpoint_ref: str, model_id: str) -> None:
        begun = await self._claim(account_id, endpoint_ref, model_id)
        loop = self._loop_of(begun.deployment_id)
        if begun.settled:
            await _retry_refused(loop, begun)
            return
        notes = AttachProgress(self._transact, lambda session, done: _record(session, begun, done))
        try:
            self._step = AttachStep.STAGE
            begun = await self._stage(begun)
            self._tell(notes, AttachStep.STAGE, begun.engine_name)
            await self._bring(begun, loop.pool, notes)
        except BaseException as error:
            await self._undo(begun, loop, notes, error)
            if not isinstance(error, LoradockError):
                raise
            raise type(error)(
                f"attaching {begun.engine_name} failed at step '{self._step}': {error.message}. Nothing was changed",
                param="model_id",
            ) from error
        await loop.publish_adapter(begun.attached())
        loop.fleet.wake_without(begun.engine_name, begun.path)

    async def _claim(self, account_id: str, endpoint_ref: str, model_id: str) -> Claim:
        most, blobs = self._context.options.max_attachments, self._blobs
        try:
            return await self._transact(
                lambda session: claim(session, account_id, endpoint_ref, model_id, blobs=blobs, most=most)
            )
        except IntegrityError:
            # Another attach, or a deletion, was quicker; usually its rule says which.
            await self._transact(
                lambda session: check_attachable(session, *resolve_pair(session, account_id, endpoint_ref, model_id))
            )
            raise AlreadyBound(param="model_id") from None

    async def _stage(self, begun: Claim) -> Claim:
        """The adapter's files as every engine reads them, and held against the base where no engine does."""
        _check_files(begun.path)
        if (settle := self._settle) is None:
            return begun
        look = begun.engine is EngineKind.VLLM
        path = await self._transact.run(
            lambda: settle(begun.account_id, begun.model_id, begun.path, begun.base_model, look=look)
        )
        return replace(begun, path=path)

    async def _bring(self, begun: Claim, pool: ReplicaPool, notes: AttachProgress) -> None:
        holders = await self._load_and_probe(begun, pool, notes)
        self._step = AttachStep.ROUTE
        where = f"{begun.engine_name} on {_replicas(holders)}" if holders else "once the endpoint runs"
        ended = [StepResult(step, where, now()) for step in _VISIBLE if step not in self._told]
        rest = await notes.rest()
        await self._transact(lambda session: _complete(session, begun, [*rest, *ended]))

    def _tell(self, notes: AttachProgress, step: AttachStep, message: str) -> None:
        """Note a step when it is done for the first time."""
        if step not in self._told:
            self._told.add(step)
            notes.note(step, message)

    async def _load_and_probe(self, begun: Claim, pool: ReplicaPool, notes: AttachProgress) -> int:
        """Load and probe it on every ready replica that answers, also on those that become so meanwhile; return how
        many hold it in the end.

        A replica lost meanwhile fails the attach only if no other holds it: what takes its place reads the table.
        """
        holders, loss = 0, None
        while fresh := [replica for replica in pool.answering if replica not in self._tried]:
            self._tried += fresh
            self._step = AttachStep.LOAD
            fresh, lost = await _everywhere(fresh, lambda r: r.load(begun.engine_name, begun.path))
            if fresh:
                where = f"{begun.engine_name} on {_replicas(len(fresh))}"
                self._tell(notes, AttachStep.LOAD, where)
                self._step = AttachStep.PROBE
                fresh, lost_too = await _everywhere(fresh, lambda r: r.probe(begun.engine_name))
                lost = lost or lost_too
            if fresh:
                self._tell(notes, AttachStep.PROBE, where)
            holders, loss = holders + len(fresh), loss or lost
        if loss is not None and not holders:
            raise loss
        return holders

    async def _undo(self, begun: Claim, loop: DeploymentLoop, notes: AttachProgress, error: BaseException) -> None:
        if not begun.revived:
            for replica in self._tried:
                with suppress(LoradockError):  # the replica's supervisor unloads what has no row
                    await _residency(replica).unload(begun.engine_name)
        reason = error.message if isinstance(error, LoradockError) else repr(error)
        try:
            done = await notes.rest()
        except Exception as failure:
            log.warning("the steps of an attach could not be recorded: %s", failure)
            done = await notes.rest()
        failed = self._step
        await loop.write(lambda session: _revert(session, begun, done, failed, reason))
        loop.wake()


async def _everywhere(
    replicas: list[Replica], call: Callable[[Residency], Awaitable[None]]
) -> tuple[list[Replica], ReplicaLost | None]:
    """All at once; every one has ended before the first error is raised, so that undoing meets nothing half done.

    Returns who carried it out, and the loss of one that did not. One that was sent away meanwhile counts as neither.
    """
    done, lost = [], None
    results = await asyncio.gather(*(call(_residency(replica)) for replica in replicas), return_exceptions=True)
    for replica, result in zip(replicas, results, strict=True):
        if result is None:
            done.append(replica)
        elif isinstance(result, ReplicaLost):
            lost = lost if _sent_away(replica) else result
        elif not (isinstance(result, LoradockError) and _sent_away(replica)):
            raise result
    return done, lost


def _sent_away(replica: Replica) -> bool:
    return replica.state is ReplicaState.DRAINING and replica.failure is None


def _residency(replica: Replica) -> Residency:
    """Return the replica's residency, which every replica has that was ever ready."""
    assert replica.residency is not None
    return replica.residency


async def _retry_refused(loop: DeploymentLoop, begun: Claim) -> None:
    """Try once more where a replica would not take what is attached. Raises AdapterRefused if it still does not."""
    if any(begun.engine_name in replica.refused for replica in loop.pool.ready):
        _check_files(begun.path)
    for replica in loop.pool.ready:
        if begun.engine_name in replica.refused:
            await _residency(replica).load(begun.engine_name, begun.path)
    await loop.publish_adapter(begun.attached())


def _check_files(folder: Path) -> None:
    missing = [file for file in _FILES if not (folder / file).is_file()]
    if missing:
        raise Internal(f"{', '.join(missing)} is missing on the server: upload the adapter again")


def _complete(session: Session, begun: Claim, done: list[StepResult]) -> None:
    done_for = {"attachment": begun.attachment_id}
    if cast("CursorResult[Any]", session.execute(_ATTACHED, done_for)).rowcount != 1:
        raise NotBound("the endpoint was deleted meanwhile")
    _record(session, begun, done)


def _record(session: Session, begun: Claim, done: list[StepResult]) -> None:
    notes = [(f"attach.{note.step}", note.message, note.at, _facts(begun, note)) for note in done]
    record_all(session, begun.account_id, begun.model_id, notes, begun.endpoint_id)


def _facts(begun: Claim, note: StepResult) -> Facts:
    return begun.end_facts(note.step, note.at) if note.step is AttachStep.ROUTE else begun.facts(note.step)


def _revert(session: Session, begun: Claim, done: list[StepResult], failed: AttachStep, reason: str) -> None:
    _record(session, begun, done)
    row = Attachment.id == begun.attachment_id
    if begun.revived:
        session.execute(update(Attachment).where(row).values(state=AttachmentState.DETACHING))
    else:
        session.execute(delete(Attachment).where(row))
    facts = begun.end_facts(failed, now())
    message = f"{failed} failed: {reason}"
    record(
        session,
        begun.account_id,
        begun.model_id,
        "attach.undone",
        message,
        endpoint_id=begun.endpoint_id,
        facts=facts,
    )


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"
