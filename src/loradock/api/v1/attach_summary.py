"""Attaches told by their last event: to which endpoint, and how long it took or why it failed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.api.v1.views import event_view
from loradock.store.tables import Event
from loradock.types.enums import AttachStep

BETWEEN = [f"attach.{step}" for step in AttachStep if step is not AttachStep.ROUTE]
"""Kinds of events that a summary leaves out."""
_FIRST, _LAST, _UNDONE = f"attach.{AttachStep.AUTHORIZE}", f"attach.{AttachStep.ROUTE}", "attach.undone"
_LOOK_BACK = 2000
"""Events of all accounts before the page, among which the beginning of an attach is looked for."""


def summarised(session: Session, events: Sequence[Event]) -> list[dict[str, Any]]:
    """`events` are without those of BETWEEN."""
    ends = [event for event in events if event.kind in (_LAST, _UNDONE)]
    begins = _begins(session, ends)
    return [{**event_view(event), **_of_attach(event, begins)} for event in events]


def _begins(session: Session, ends: Sequence[Event]) -> dict[int, Event]:
    """The beginning of each attach by the id of its end."""
    if not ends:
        return {}
    ids = [event.id for event in ends]
    query = select(Event).where(Event.id > min(ids) - _LOOK_BACK, Event.id < max(ids), Event.kind == _FIRST)
    found = list(session.scalars(query.where(Event.account_id == ends[0].account_id).order_by(Event.id)))
    begins = {}
    for end in ends:
        before = [event for event in found if event.subject_id == end.subject_id and event.id < end.id]
        if before:
            begins[end.id] = before[-1]
    return begins


def _of_attach(event: Event, begins: dict[int, Event]) -> dict[str, Any]:
    begin = begins.get(event.id)
    if begin is None:
        return {}
    adapter, _, endpoint = begin.message.partition(" → ")
    took = max(0, round((event.created_at - begin.created_at).total_seconds() * 1000))
    how = f"attached in {took} ms" if event.kind == _LAST else f"not attached: {event.message}"
    return {"endpoint": endpoint, "duration_ms": took, "message": f"{adapter} → {endpoint}: {how}"}
