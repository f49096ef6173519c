"""Adapters that could be attached to an endpoint."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, selectinload

from loradock.endpoints.attachments import same_base
from loradock.queries.adapters import bases_of_adapters
from loradock.store.tables import Attachment, Endpoint, Model
from loradock.types.enums import AttachmentState, ModelKind, ModelState


@dataclass(frozen=True, slots=True)
class FreeAdapters:
    """`others`: some of those that were not chosen and match; `matching`: how many do; `all`: the chosen ones, too."""

    chosen: Sequence[Model]
    others: Sequence[Model]
    matching: int
    all: int


def free_adapters(
    session: Session, account_id: str, endpoint: Endpoint, chosen: Collection[str], text: str, most: int
) -> FreeAdapters:
    """Return the account's free adapters. What is `chosen`, by name, has not to match; of the others there are
    `most`."""
    free = _free(session, account_id, endpoint.deployment.base_model)
    others = [*free, Model.name.not_in(chosen), Model.name.icontains(text, autoescape=True)]
    return FreeAdapters(
        chosen=_newest(session, [*free, Model.name.in_(chosen)], len(chosen)) if chosen else [],
        others=_newest(session, others, most),
        matching=_count(session, others),
        all=_count(session, free),
    )


def _free(session: Session, account_id: str, base: str) -> list[ColumnElement[bool]]:
    """Own adapters for this base, by whatever name of it, that are attached nowhere."""
    bases = [name for name in bases_of_adapters(session, account_id) if same_base(name, base)]
    bound = select(Attachment.model_id).where(Attachment.state != AttachmentState.DETACHING)
    return [
        Model.account_id == account_id,
        Model.kind == ModelKind.ADAPTER,
        Model.state == ModelState.READY,
        Model.base_model.in_(bases),
        Model.id.not_in(bound),
    ]


def _newest(session: Session, wanted: list[ColumnElement[bool]], most: int) -> Sequence[Model]:
    query = select(Model).where(*wanted).options(selectinload(Model.revisions))
    return session.scalars(query.order_by(Model.created_at.desc(), Model.name).limit(most)).all()


def _count(session: Session, wanted: list[ColumnElement[bool]]) -> int:
    return session.scalar(select(func.count(Model.id)).where(*wanted)) or 0
