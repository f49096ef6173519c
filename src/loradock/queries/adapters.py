"""An account's adapters as a list: one query for a page of them, however many there are."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session, contains_eager

from loradock.queries.lists import Column, ListQuery, cut, has_text, ordered
from loradock.store.tables import Attachment, Deployment, Endpoint, Model, Revision
from loradock.types.enums import AttachmentState, ModelKind, ModelState


class AdapterStatus(StrEnum):
    """The status of an adapter: in use, at rest, or still on its way."""

    ATTACHED = "attached"
    FREE = "free"
    UPLOADING = "uploading"


_COLUMNS: dict[str, Column] = {
    "created": Model.created_at,
    "name": func.lower(Model.name),
    "rank": Revision.rank,
    "size": Revision.size_bytes,
    "base": func.lower(Model.base_model),
    "status": func.lower(Endpoint.display_name),
}
SORTS = tuple(_COLUMNS)
_TEXTS = Model.name, Model.description


@dataclass(frozen=True, slots=True)
class AdapterSearch:
    """`base`: only those for this base model; `status` None: whatever theirs is."""

    query: ListQuery
    base: str = ""
    status: AdapterStatus | None = None


@dataclass(frozen=True, slots=True)
class ListedAdapter:
    """`revision` is None until the files have been accepted; `endpoint` is where an adapter is attached."""

    model: Model
    revision: Revision | None
    endpoint: Endpoint | None


def _newest_revision() -> ColumnElement[bool]:
    """Joins `Revision` to `Model` by the newest one only."""
    newest = select(Revision.id).where(Revision.model_id == Model.id).order_by(Revision.created_at.desc()).limit(1)
    return Revision.id == newest.correlate(Model).scalar_subquery()


def search_adapters(session: Session, account_id: str, search: AdapterSearch) -> tuple[list[ListedAdapter], int]:
    """A page of them and how many match in all. What is still being uploaded counts as an adapter."""
    query = _joined(select(Model, Revision, Endpoint)).where(*_wanted(account_id, search))
    query = cut(query.order_by(_order(search.query), Model.id), search.query)
    total = session.scalar(_joined(select(func.count(Model.id))).where(*_wanted(account_id, search))) or 0
    query = query.options(contains_eager(Endpoint.deployments))
    return [ListedAdapter(*row) for row in session.execute(query).unique()], total


def matching_names(session: Session, account_id: str, search: AdapterSearch, most: int) -> list[str]:
    """Return the names of all that match and are ready, whatever page they are on."""
    query = _joined(select(Model.name)).where(*_wanted(account_id, search), Model.state == ModelState.READY)
    return list(session.scalars(query.order_by(_order(search.query), Model.id).limit(most)))


def count_adapters(session: Session, account_id: str) -> int:
    return session.scalar(select(func.count(Model.id)).where(*_adapters(account_id))) or 0


def bases_of_adapters(session: Session, account_id: str) -> dict[str, int]:
    """Base model → how many adapters of the account are for it."""
    query = select(Model.base_model, func.count()).where(*_adapters(account_id), Model.base_model.is_not(None))
    found = session.execute(query.group_by(Model.base_model).order_by(Model.base_model))
    return {base: count for base, count in found if base is not None}


def _joined(query: Any) -> Select[Any]:
    bound = (Attachment.model_id == Model.id) & (Attachment.state != AttachmentState.DETACHING)
    joined: Select[Any] = (
        query.select_from(Model)
        .outerjoin(Revision, _newest_revision())
        .outerjoin(Attachment, bound)
        .outerjoin(Deployment, Attachment.deployment_id == Deployment.id)
        .outerjoin(Endpoint, Deployment.endpoint_id == Endpoint.id)
    )
    return joined


def _adapters(account_id: str) -> tuple[ColumnElement[bool], ...]:
    kind = or_(Model.kind == ModelKind.ADAPTER, Model.state == ModelState.UPLOADING)
    return Model.account_id == account_id, kind


def _wanted(account_id: str, search: AdapterSearch) -> list[ColumnElement[bool]]:
    wanted = [*_adapters(account_id), *has_text(search.query.text, _TEXTS)]
    if search.base:
        wanted.append(Model.base_model == search.base)
    match search.status:
        case AdapterStatus.ATTACHED:
            wanted.append(Endpoint.id.is_not(None))
        case AdapterStatus.FREE:
            wanted += [Endpoint.id.is_(None), Model.state == ModelState.READY]
        case AdapterStatus.UPLOADING:
            wanted.append(Model.state == ModelState.UPLOADING)
    return wanted


def _order(query: ListQuery) -> ColumnElement[Any]:
    return ordered(_COLUMNS[query.column], query).nulls_last()
