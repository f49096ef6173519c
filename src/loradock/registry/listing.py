"""An account's models as a list to search: one query for a page of them, however many there are."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager

from loradock.store.tables import Attachment, Deployment, Endpoint, Job, Model, Revision
from loradock.types.enums import AttachmentState, ModelKind, ModelState

PAGE_SIZE = 50


class Status(StrEnum):
    """What an adapter is doing: in use, at rest, or still on its way."""

    ATTACHED = "attached"
    FREE = "free"
    UPLOADING = "uploading"


SORTS: dict[str, ColumnElement[Any] | InstrumentedAttribute[Any]] = {
    "created": Model.created_at,
    "name": func.lower(Model.name),
    "rank": Revision.rank,
    "size": Revision.size_bytes,
    "base": func.lower(Model.base_model),
    "status": func.lower(Endpoint.display_name),
}


@dataclass(frozen=True, slots=True)
class Search:
    """`text` is looked for in names and descriptions. `sort` is a column, with `-` in front for the largest first;
    an unknown one means the newest first. `page` counts from 1."""

    text: str = ""
    base: str = ""
    status: Status | None = None
    sort: str = "-created"
    page: int = 1


@dataclass(frozen=True, slots=True)
class Listed:
    """`revision` is None until the files have been accepted; `endpoint` is where an adapter is attached."""

    model: Model
    revision: Revision | None
    endpoint: Endpoint | None


def newest_revision() -> ColumnElement[bool]:
    """Joins `Revision` to `Model` by the newest one only."""
    newest = select(Revision.id).where(Revision.model_id == Model.id).order_by(Revision.created_at.desc()).limit(1)
    return Revision.id == newest.correlate(Model).scalar_subquery()


def search_adapters(session: Session, account_id: str, search: Search) -> tuple[list[Listed], int]:
    """A page of them and how many match in all. What is still being uploaded counts as an adapter."""
    query = _joined(select(Model, Revision, Endpoint)).where(*_wanted(account_id, search))
    query = query.order_by(_order(search.sort), Model.id).limit(PAGE_SIZE).offset((search.page - 1) * PAGE_SIZE)
    total = session.scalar(_joined(select(func.count(Model.id))).where(*_wanted(account_id, search))) or 0
    query = query.options(contains_eager(Endpoint.deployments))
    return [Listed(*row) for row in session.execute(query).unique()], total


def matching_names(session: Session, account_id: str, search: Search, most: int) -> list[str]:
    """Of all that match and are ready, whatever page they are on."""
    query = _joined(select(Model.name)).where(*_wanted(account_id, search), Model.state == ModelState.READY)
    return list(session.scalars(query.order_by(_order(search.sort), Model.id).limit(most)))


def count_adapters(session: Session, account_id: str) -> int:
    return session.scalar(select(func.count(Model.id)).where(*_adapters(account_id))) or 0


def bases_of_adapters(session: Session, account_id: str) -> dict[str, int]:
    """Base model → how many adapters of the account are for it."""
    query = select(Model.base_model, func.count()).where(*_adapters(account_id), Model.base_model.is_not(None))
    found = session.execute(query.group_by(Model.base_model).order_by(Model.base_model))
    return {base: count for base, count in found if base is not None}


def newest_jobs(session: Session, account_id: str, model_ids: list[str]) -> dict[str, Job]:
    """Model id → its upload job."""
    query = select(Job).where(Job.account_id == account_id, Job.model_id.in_(model_ids)).order_by(Job.created_at)
    return {job.model_id: job for job in session.scalars(query)} if model_ids else {}


def _joined(query: Any) -> Select[Any]:
    bound = (Attachment.model_id == Model.id) & (Attachment.state != AttachmentState.DETACHING)
    joined: Select[Any] = (
        query.select_from(Model)
        .outerjoin(Revision, newest_revision())
        .outerjoin(Attachment, bound)
        .outerjoin(Deployment, Attachment.deployment_id == Deployment.id)
        .outerjoin(Endpoint, Deployment.endpoint_id == Endpoint.id)
    )
    return joined


def _adapters(account_id: str) -> tuple[ColumnElement[bool], ...]:
    kind = or_(Model.kind == ModelKind.ADAPTER, Model.state == ModelState.UPLOADING)
    return Model.account_id == account_id, kind


def _wanted(account_id: str, search: Search) -> list[ColumnElement[bool]]:
    wanted = [*_adapters(account_id)]
    if search.text:
        found = (column.icontains(search.text, autoescape=True) for column in (Model.name, Model.description))
        wanted.append(or_(*found))
    if search.base:
        wanted.append(Model.base_model == search.base)
    match search.status:
        case Status.ATTACHED:
            wanted.append(Endpoint.id.is_not(None))
        case Status.FREE:
            wanted += [Endpoint.id.is_(None), Model.state == ModelState.READY]
        case Status.UPLOADING:
            wanted.append(Model.state == ModelState.UPLOADING)
    return wanted


def _order(sort: str) -> ColumnElement[Any]:
    column = SORTS.get(sort.removeprefix("-"))
    if column is None:
        return Model.created_at.desc()
    return column.desc().nulls_last() if sort.startswith("-") else column.asc().nulls_last()
