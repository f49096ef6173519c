"""Events as lists tell them: an attach, and a detach, is one, with its steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from loradock.queries.endpoints import id_of
from loradock.queries.lists import has_text
from loradock.store.events import INTERMEDIATE_ATTACH_KINDS
from loradock.store.models import find_model
from loradock.store.tables import Event

_TOLD = Event.kind.not_in(INTERMEDIATE_ATTACH_KINDS) & Event.facts["unloaded"].as_boolean().is_not(True)
"""The events that are listed: of an attach its last step, of a detach who asked for it."""
_LEAVING = ("detach.begun", "detach.done")
_TEXTS = Event.message, Event.actor, Event.kind, Event.subject_id
_STEPS = 2000
"""Events looked through for the steps of a page's attaches."""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """`kind`: the first part of theirs. `beyond`: only what comes after the event of this number."""

    text: str = ""
    kind: str = ""
    subject_id: str = ""
    newest_first: bool = True
    beyond: int | None = None


def search_events(session: Session, account_id: str, query: EventQuery, most: int) -> list[Event]:
    """Return events that match. `beyond` is a number, not a page: more come in at the top meanwhile."""
    statement = select(Event).where(Event.account_id == account_id, _TOLD, *_wanted(query))
    if query.beyond is not None:
        statement = statement.where(Event.id < query.beyond if query.newest_first else Event.id > query.beyond)
    order = Event.id.desc() if query.newest_first else Event.id.asc()
    return list(session.scalars(statement.order_by(order).limit(most)))


def newest_events(session: Session, account_id: str, most: int) -> list[Event]:
    query = select(Event).where(Event.account_id == account_id, _TOLD)
    return list(session.scalars(query.order_by(Event.id.desc()).limit(most)))


def newest_events_of(session: Session, subject_id: str, most: int) -> list[Event]:
    query = select(Event).where(Event.subject_id == subject_id, _TOLD).order_by(Event.id.desc()).limit(most)
    return list(session.scalars(query))


def subject_id_of(session: Session, account_id: str, given: str) -> str:
    """Return the id of a model or an endpoint by name or id. What is gone has no name any more: its events are found by
    its id."""
    model = find_model(session, account_id, given)
    return model.id if model is not None else id_of(session, account_id, given) or given


def steps_behind(session: Session, account_id: str, told: Sequence[Event]) -> dict[int, list[Event]]:
    """Return all events of each attach or detach, by the number of the event that tells of it."""
    ends = {event.id: event for event in told if event.kind in ("attach.route", "attach.undone")}
    begins = {event.id: event for event in told if event.kind == "detach.begun"}
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


def _wanted(query: EventQuery) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if query.kind:
        wanted.append(Event.kind.startswith(f"{query.kind}."))
    if query.subject_id:
        wanted.append(Event.subject_id == query.subject_id)
    return [*wanted, *has_text(query.text, _TEXTS)]


def _up_to(end: Event, newest_first: Sequence[Event]) -> list[Event]:
    """The steps of an attach, back to the end of what went before it."""
    before = [e for e in newest_first if e.subject_id == end.subject_id and e.id < end.id]
    return [end, *takewhile(lambda event: event.kind in INTERMEDIATE_ATTACH_KINDS, before)][::-1]


def _from(begin: Event, oldest_first: Sequence[Event]) -> list[Event]:
    after = next((e for e in oldest_first if e.subject_id == begin.subject_id and e.id > begin.id), None)
    return [begin, after] if after is not None and after.kind == "detach.done" else [begin]
