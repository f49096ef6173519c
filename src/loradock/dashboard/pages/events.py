"""Events: who did what when. An attach, and a detach, is one row; its steps open on demand."""

from collections.abc import Sequence
from itertools import takewhile

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.components.attach_steps import TOLD
from loradock.dashboard.components.event_subjects import subjects_of
from loradock.dashboard.components.lists import Asked, read_asked
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.store.events import INTERMEDIATE_ATTACH_KINDS
from loradock.store.sessions import SignedIn
from loradock.store.tables import Event

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
_LEAVING = ("detach.begun", "detach.done")
_PAGE = 50
_STEPS = 2000
"""Events looked through for the steps of a page's attaches."""


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
        found = _read(session, me.account_id, asked, beyond)
        shown = found[:_PAGE]
        ids = {event.subject_id for event in shown} | ({subject} if subject else set())
        return page(
            request,
            "events.html",
            asked=asked,
            events=shown,
            steps=_steps(session, me.account_id, shown),
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


def _read(session: Session, account_id: str, asked: Asked, beyond: int | None) -> list[Event]:
    """One more than a page has. By number, not by page: more come in at the top meanwhile."""
    query = select(Event).where(Event.account_id == account_id, TOLD, *_wanted(asked))
    if beyond is not None:
        query = query.where(Event.id < beyond if asked.descending else Event.id > beyond)
    order = Event.id.desc() if asked.descending else Event.id.asc()
    return list(session.scalars(query.order_by(order).limit(_PAGE + 1)))


def _wanted(asked: Asked) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if kind := asked.filters["kind"]:
        wanted.append(Event.kind.startswith(f"{kind}."))
    if subject := asked.more.get("subject"):
        wanted.append(Event.subject_id == subject)
    if asked.text:
        columns = (Event.message, Event.actor, Event.kind, Event.subject_id)
        wanted.append(or_(*(column.icontains(asked.text, autoescape=True) for column in columns)))
    return wanted


def _steps(session: Session, account_id: str, shown: list[Event]) -> dict[int, list[Event]]:
    """By the number of the event that tells of an attach or a detach: all of its events."""
    ends = {event.id: event for event in shown if event.kind in ("attach.route", "attach.undone")}
    begins = {event.id: event for event in shown if event.kind == "detach.begun"}
    own = Event.account_id == account_id
    found: dict[int, list[Event]] = {}
    if ends:
        subjects = {event.subject_id for event in ends.values()}
        query = select(Event).where(own, Event.subject_id.in_(subjects), Event.kind.startswith("attach."))
        query = query.where(Event.id <= max(ends)).order_by(Event.id.desc()).limit(_STEPS)
        newest_first = session.scalars(query).all()
        found |= {number: _up_to(end, newest_first) for number, end in ends.items()}
    if begins:
        subjects = {event.subject_id for event in begins.values()}
        query = select(Event).where(own, Event.subject_id.in_(subjects), Event.kind.in_(_LEAVING))
        query = query.where(Event.id > min(begins)).order_by(Event.id.asc()).limit(_STEPS)
        oldest_first = session.scalars(query).all()
        found |= {number: _from(begin, oldest_first) for number, begin in begins.items()}
    return {number: steps for number, steps in found.items() if len(steps) > 1}


def _up_to(end: Event, newest_first: Sequence[Event]) -> list[Event]:
    """The steps of an attach, back to the end of what went before it."""
    before = [e for e in newest_first if e.subject_id == end.subject_id and e.id < end.id]
    return [end, *takewhile(lambda event: event.kind in INTERMEDIATE_ATTACH_KINDS, before)][::-1]


def _from(begin: Event, oldest_first: Sequence[Event]) -> list[Event]:
    after = next((e for e in oldest_first if e.subject_id == begin.subject_id and e.id > begin.id), None)
    return [begin, after] if after is not None and after.kind == "detach.done" else [begin]


routes = [Route("/ui/events", events)]
