"""Uploads: every job of the account, with what became of it."""

from typing import Any

from sqlalchemy import ColumnElement, cast, func, or_, select
from sqlalchemy import String as Text
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.components.lists import PAGE_SIZE, Asked, Shown, read_asked
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.registry.listing import count_adapters
from loradock.store.sessions import SignedIn
from loradock.store.tables import Job
from loradock.types.enums import JobStatus

_NAME = func.lower(Job.args["modelName"].as_string())
_SORTS: dict[str, ColumnElement[Any]] = {
    "created": Job.created_at.expression,
    "name": _NAME,
    "status": cast(Job.status, Text),
}
_STATUS = {
    "running": (JobStatus.QUEUED, JobStatus.RUNNING),
    "ready": (JobStatus.COMPLETE,),
    "refused": (JobStatus.FAILED,),
}


@signed_in
def index(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    asked = read_asked(
        "/ui/jobs", request.query_params, sorts=_SORTS, usual="-created", filters={"status": tuple(_STATUS)}
    )
    own = Job.account_id == me.account_id
    wanted = [own, *_wanted(asked)]
    column = _SORTS[asked.column]
    order = column.desc() if asked.descending else column.asc()
    query = select(Job).where(*wanted).order_by(order, Job.id)
    with services.database.session() as session:
        rows = session.scalars(query.limit(PAGE_SIZE).offset((asked.page - 1) * PAGE_SIZE)).all()
        total, all = (session.scalar(select(func.count(Job.id)).where(*c)) or 0 for c in (wanted, [own]))
        return page(
            request,
            "jobs.html",
            kind="job",
            list=Shown(asked, rows, total, PAGE_SIZE, all),
            adapters=count_adapters(session, me.account_id),
            running=any(job.status in _STATUS["running"] for job in rows),
        )


def _wanted(asked: Asked) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if asked.text:
        source = Job.args["modelSource"].as_string()
        texts = (_NAME, source, cast(Job.status_updates, Text))
        wanted.append(or_(*(text.icontains(asked.text, autoescape=True) for text in texts)))
    if status := asked.filters["status"]:
        wanted.append(Job.status.in_(_STATUS[status]))
    return wanted


routes = [Route("/ui/jobs", index)]
