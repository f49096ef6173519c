"""Events: who did what when. An attach, and a detach, is one row; its steps open on demand."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.components.lists import Asked, read_asked
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.operations.services import Services
from loradock.queries.event_subjects import subjects_of
from loradock.queries.events import EventQuery, search_events, steps_behind
from loradock.store.sessions import SignedIn

KINDS = {
    "endpoint": "Endpoints",
    "replica": "Replicas",
    "attach": "Attaching",
    "detach": "Detaching",
    "adapter": "Adapters refused",
    "model": "Models",
    "key": "API keys",
}
"""The first part of an event's kind → what the filter calls it."""
_PAGE = 50


@signed_in
def events(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    asked = read_asked(
        "/ui/events",
        request.query_params,
        sorts=("when",),
        usual="-when",
        filters={"kind": tuple(KINDS)},
        more=("subject",),
    )
    subject, beyond = asked.more.get("subject", ""), _beyond(request)
    with services.database.session() as session:
        found = search_events(session, me.account_id, _query(asked, beyond), _PAGE + 1)  # one tells of a next page
        shown = found[:_PAGE]
        ids = {event.subject_id for event in shown} | ({subject} if subject else set())
        return page(
            request,
            "events.html",
            asked=asked,
            events=shown,
            steps=steps_behind(session, me.account_id, shown),
            subjects=subjects_of(session, me.account_id, ids),
            kinds=KINDS,
            subject=subject,
            beyond=beyond,
            next=shown[-1].id if len(found) > _PAGE else None,
        )


def _beyond(request: Request) -> int | None:
    """The last event of the page before."""
    before = request.query_params.get("before", "")
    return int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None


def _query(asked: Asked, beyond: int | None) -> EventQuery:
    return EventQuery(
        text=asked.text,
        kind=asked.filters["kind"],
        subject_id=asked.more.get("subject", ""),
        newest_first=asked.descending,
        beyond=beyond,
    )


routes = [Route("/ui/events", events)]
