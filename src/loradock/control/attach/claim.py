"""The database side of an attach: checks, then a row that says it has begun (and is undone after a crash)."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from loradock.control.snapshot import AttachmentRecord
from loradock.endpoints.attachments import check_attachable, resolve_pair
from loradock.endpoints.rules import MAX_LORA_RANK
from loradock.machine.share import memory_free
from loradock.store.events import Facts, record_all
from loradock.store.tables import Attachment, Deployment, Endpoint, Model, Replica, Revision, now
from loradock.types.enums import AttachmentState, AttachStep, EngineKind
from loradock.types.errors import BadRequest
from loradock.types.names import new_id

_GIB = 2**30
_CHECKS = (AttachStep.AUTHORIZE, AttachStep.RESOLVE, AttachStep.COMPATIBLE, AttachStep.FITS)

_OTHER_ATTACHMENTS = select(func.count()).where(
    Attachment.deployment_id == bindparam("deployment"), Attachment.model_id != bindparam("besides")
)
_REPLICAS = select(func.count()).where(Replica.deployment_id == bindparam("deployment"))
_OTHERS = select(_OTHER_ATTACHMENTS.scalar_subquery(), _REPLICAS.scalar_subquery())


@dataclass(frozen=True, slots=True)
class Claim:
    """`revived`: the row was still draining away from an earlier detach. `settled`: it was attached already."""

    attachment_id: str
    deployment_id: str
    account_id: str
    model_id: str
    engine_name: str
    path: Path
    base_model: str
    engine: EngineKind
    endpoint_id: str
    endpoint_name: str
    began: datetime
    revived: bool = False
    settled: bool = False

    def facts(self, step: AttachStep) -> Facts:
        return Facts(adapter=self.engine_name, endpoint=self.endpoint_name, step=step)

    def end_facts(self, step: AttachStep, at: datetime) -> Facts:
        took = round((at - self.began).total_seconds() * 1000)
        return Facts(**self.facts(step), duration_ms=max(0, took))

    def attached(self) -> AttachmentRecord:
        """The attachment once it is complete."""
        return AttachmentRecord(
            self.attachment_id, self.model_id, self.engine_name, self.path, AttachmentState.ATTACHED
        )


def claim(session: Session, account_id: str, endpoint_ref: str, model_id: str, *, blobs: Path, most: int) -> Claim:
    """Raises the errors of `resolve_pair` and `check_attachable`, BadRequest when it does not fit, and
    IntegrityError when another attach of the same adapter was quicker."""
    began = now()
    endpoint, model = resolve_pair(session, account_id, endpoint_ref, model_id)
    row = check_attachable(session, endpoint, model)
    settled = row is not None and row.state is AttachmentState.ATTACHED
    revived = row is not None and row.state is AttachmentState.DETACHING
    if not settled:
        check_capacity(session, endpoint.deployment, model.revisions[-1], most, besides=model.id)
        row = _begin(session, endpoint, model, row)
    assert row is not None
    folder = blobs / (row.revision if settled else model.revisions[-1]).digest
    return Claim(
        attachment_id=row.id,
        deployment_id=row.deployment_id,
        account_id=account_id,
        model_id=model.id,
        engine_name=row.engine_name,
        path=folder,
        base_model=endpoint.deployment.base_model,
        engine=endpoint.deployment.engine,
        endpoint_id=endpoint.id,
        endpoint_name=endpoint.name,
        began=began,
        revived=revived,
        settled=settled,
    )


def check_capacity(session: Session, deployment: Deployment, revision: Revision, most: int, *, besides: str) -> None:
    """Raises BadRequest with the numbers. `besides` is the model whose own attachment does not count."""
    rank = revision.rank or 0
    if rank > deployment.max_lora_rank:
        raise BadRequest(
            f"this adapter has rank {rank} and the endpoint takes ranks up to {deployment.max_lora_rank}:"
            f" {rank} > {deployment.max_lora_rank}. {_for_rank(deployment.endpoint, rank)}",
            param="model_id",
        )
    taken, replicas = _others(session, deployment.id, besides)
    if taken >= most:
        raise BadRequest(
            f"the endpoint is full: it takes {most} adapters and {taken} are attached or being removed:"
            f" {taken} + 1 > {most}. Remove one first, or create another endpoint",
            param="model_id",
        )
    _check_memory(revision.size_bytes, max(deployment.min_replicas, replicas))


def _for_rank(endpoint: Endpoint, rank: int) -> str:
    if rank > MAX_LORA_RANK:
        return f"Train it with a smaller rank: no endpoint takes more than {MAX_LORA_RANK}"
    command = f"loradock endpoints update {endpoint.name} --max-lora-rank {rank}"
    return f"Raise the limit with {command} (its replicas are replaced one by one), or train it with a smaller rank"


def _others(session: Session, deployment_id: str, besides: str) -> tuple[int, int]:
    """Return the number of other adapters' attachments and the number of replicas."""
    taken, running = session.execute(_OTHERS, {"deployment": deployment_id, "besides": besides}).one()
    return taken, running


def _check_memory(size: int, replicas: int) -> None:
    """An adapter in use has to fit the memory as a whole, once for every replica, beside what is there already."""
    free = memory_free()
    if size * replicas > free:
        each, whole, there = (f"{number / _GIB:.1f}" for number in (size, size * replicas, free))
        raise BadRequest(
            f"this adapter needs {each} GiB of memory in each replica and {there} GiB are free:"
            f" {replicas} * {each} = {whole} > {there}. Stop an endpoint, lower its min_replicas, or train the adapter"
            " with a smaller rank",
            param="model_id",
        )


def _begin(session: Session, endpoint: Endpoint, model: Model, row: Attachment | None) -> Attachment:
    row = row or Attachment(
        id=new_id("att"), deployment_id=endpoint.deployment.id, model_id=model.id, engine_name=model.name
    )
    row.revision_id = model.revisions[-1].id
    row.state = AttachmentState.ATTACHING
    session.add(row)
    session.flush()
    where = f"{model.name} → {endpoint.name}"
    notes = [
        (f"attach.{step}", where, None, Facts(adapter=model.name, endpoint=endpoint.name, step=step))
        for step in _CHECKS
    ]
    record_all(session, endpoint.account_id, model.id, notes, endpoint.id)
    return row
