"""Upload jobs as a list."""

from collections.abc import Sequence

from sqlalchemy import String, cast, func, select
from sqlalchemy.orm import Session

from loradock.queries.lists import Column, Found, ListQuery, cut, has_text, ordered
from loradock.store.tables import Job
from loradock.types.enums import JobStatus

_NAME = func.lower(Job.args["modelName"].as_string())
_COLUMNS: dict[str, Column] = {
    "created": Job.created_at,
    "name": _NAME,
    "status": cast(Job.status, String),
}
SORTS = tuple(_COLUMNS)
_TEXTS = _NAME, Job.args["modelSource"].as_string(), cast(Job.status_updates, String)


def search_jobs(session: Session, account_id: str, query: ListQuery, statuses: Sequence[JobStatus] = ()) -> Found[Job]:
    """No `statuses`: whatever theirs is."""
    own = Job.account_id == account_id
    wanted = [own, *has_text(query.text, _TEXTS)]
    if statuses:
        wanted.append(Job.status.in_(statuses))
    page = cut(select(Job).where(*wanted).order_by(ordered(_COLUMNS[query.column], query), Job.id), query)
    rows = session.scalars(page).all()
    total, all = (session.scalar(select(func.count(Job.id)).where(*c)) or 0 for c in (wanted, [own]))
    return Found(rows, total, all)


def newest_jobs(session: Session, account_id: str, model_ids: list[str]) -> dict[str, Job]:
    """Model id → its upload job."""
    query = select(Job).where(Job.account_id == account_id, Job.model_id.in_(model_ids)).order_by(Job.created_at)
    return {job.model_id: job for job in session.scalars(query)} if model_ids else {}
