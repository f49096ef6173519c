"""Uploads: every job of the account, with what became of it."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.components.lists import read_asked, shown
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.operations.services import Services
from loradock.queries.adapters import count_adapters
from loradock.queries.jobs import SORTS, search_jobs
from loradock.store.sessions import SignedIn
from loradock.types.enums import JobStatus

_STATUS = {
    "running": (JobStatus.QUEUED, JobStatus.RUNNING),
    "ready": (JobStatus.COMPLETE,),
    "refused": (JobStatus.FAILED,),
}


@signed_in
def index(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    asked = read_asked(
        "/ui/jobs", request.query_params, sorts=SORTS, usual="-created", filters={"status": tuple(_STATUS)}
    )
    with services.database.session() as session:
        found = search_jobs(session, me.account_id, asked.list_query(), _STATUS.get(asked.filters["status"], ()))
        return page(
            request,
            "jobs.html",
            kind="job",
            list=shown(asked, found),
            adapters=count_adapters(session, me.account_id),
            running=any(job.status in _STATUS["running"] for job in found.rows),
        )


routes = [Route("/ui/jobs", index)]
