"""Events: who did what when."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.store.sessions import SignedIn
from loradock.store.tables import Endpoint, Event, Model

KINDS = {
    "endpoint": "Endpoints",
    "attach": "Attaching",
    "detach": "Removing",
    "model": "Models",
    "key": "API keys",
}
"""The first part of an event's kind → what the filter calls it."""
_PAGE = 50


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    href: str


@signed_in
def events(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    kind, subject, before = _asked(request)
    with services.database.session() as session:
        found = _read(session, me.account_id, kind, subject, before)
        shown = found[:_PAGE]
        older = _address(kind, subject, shown[-1].id) if len(found) > _PAGE else None
        wanted = {event.subject_id for event in shown} | ({subject} if subject else set())
        return page(
            request,
            "events.html",
            events=shown,
            subjects=_subjects(session, me.account_id, wanted),
            kinds=KINDS,
            kind=kind,
            subject=subject,
            before=before,
            older=older,
            newest=_address(kind, subject, None),
        )


def _asked(request: Request) -> tuple[str, str, int | None]:
    kind = request.query_params.get("kind", "")
    before = request.query_params.get("before", "")
    return (
        kind if kind in KINDS else "",
        request.query_params.get("subject", ""),
        int(before) if before.isdecimal() and len(before) < 19 else None,
    )


def _read(session: Session, account_id: str, kind: str, subject: str, before: int | None) -> list[Event]:
    """Newest first, one more than a page has."""
    query = select(Event).where(Event.account_id == account_id)
    if kind:
        query = query.where(Event.kind.startswith(f"{kind}."))
    if subject:
        query = query.where(Event.subject_id == subject)
    if before is not None:
        query = query.where(Event.id < before)
    return list(session.scalars(query.order_by(Event.id.desc()).limit(_PAGE + 1)))


def _subjects(session: Session, account_id: str, ids: Iterable[str]) -> dict[str, Subject]:
    """By id; what is gone has none."""
    models = session.scalars(select(Model).where(Model.account_id == account_id, Model.id.in_(ids)))
    found = {model.id: Subject(model.name, f"/ui/models/{model.name}") for model in models}
    endpoints = session.scalars(select(Endpoint).where(Endpoint.account_id == account_id, Endpoint.id.in_(ids)))
    return found | {e.id: Subject(e.display_name, f"/ui/endpoints/{e.id}") for e in endpoints}


def _address(kind: str, subject: str, before: int | None) -> str:
    asked = {"kind": kind, "subject": subject, "before": before}
    return f"/ui/events?{urlencode({name: value for name, value in asked.items() if value})}"


routes = [Route("/ui/events", events)]
