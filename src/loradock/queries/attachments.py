"""Tells which adapter is attached where, and how many are."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from loradock.store.tables import Attachment, Model, Revision
from loradock.types.enums import AttachmentState


@dataclass(frozen=True, slots=True)
class AttachmentSums:
    """The attachments of a deployment. `count`: also those on their way or leaving; `attached`: without them;
    `mean_size` in bytes."""

    count: int
    attached: int
    mean_size: int


def attachment_of(session: Session, model: Model) -> Attachment | None:
    """Return where the adapter is attached, or is leaving, if nothing else follows."""
    rows = session.scalars(select(Attachment).where(Attachment.model_id == model.id)).all()
    return min(rows, key=lambda row: row.state is AttachmentState.DETACHING, default=None)


def count_attached(session: Session, account_id: str) -> int:
    """The account's adapters that are."""
    query = select(func.count()).select_from(Attachment).join(Model)
    own = Model.account_id == account_id, Attachment.state == AttachmentState.ATTACHED
    return session.scalar(query.where(*own)) or 0


def count_by_deployment(session: Session, ids: Collection[str]) -> dict[str, int]:
    """Deployment id → how many adapters are attached, on their way or leaving; without those that have none."""
    query = select(Attachment.deployment_id, func.count()).where(Attachment.deployment_id.in_(ids))
    return dict(session.execute(query.group_by(Attachment.deployment_id)).all())


def sum_up(session: Session, deployment_id: str) -> AttachmentSums:
    complete = func.sum(case((Attachment.state == AttachmentState.ATTACHED, 1), else_=0))
    query = select(func.count(), complete, func.avg(Revision.size_bytes)).select_from(Attachment).join(Revision)
    count, attached, mean = session.execute(query.where(Attachment.deployment_id == deployment_id)).one()
    return AttachmentSums(count, int(attached or 0), int(mean or 0))
