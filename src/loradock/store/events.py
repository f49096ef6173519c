"""Records of who did what when."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypedDict, cast

from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from loradock.store.tables import Event, now
from loradock.types.enums import AttachStep

_INSERT = insert(cast("Table", Event.__table__))
"""The statement, made once, like others of what is done often: making one anew takes SQLAlchemy a good part of the
time."""


INTERMEDIATE_ATTACH_KINDS = [f"attach.{step}" for step in AttachStep if step is not AttachStep.ROUTE]
"""Kinds of events that summaries leave out: there an attach is told by its last step."""


class Facts(TypedDict, total=False):
    """The facts of an event that programs read."""

    name: str
    """The name of a thing that is gone since."""
    adapter: str
    endpoint: str
    """The endpoint's name."""
    step: str
    """An AttachStep: done, or of an undone attach the one that failed."""
    duration_ms: int
    """The duration of an attach since it began, at its end."""
    unloaded: bool
    """Whether a detach, at its end, was by itself, not because the endpoint was deleted."""


def record(
    session: Session,
    account_id: str,
    subject_id: str,
    kind: str,
    message: str,
    *,
    endpoint_id: str | None = None,
    facts: Facts | None = None,
) -> None:
    """`kind` is dotted, e.g. `attach.load`. Who did it is known from where this runs (store.actor)."""
    session.add(
        Event(
            account_id=account_id,
            subject_id=subject_id,
            kind=kind,
            message=message,
            endpoint_id=endpoint_id,
            facts=facts,
        )
    )


def record_all(
    session: Session,
    account_id: str,
    subject_id: str,
    notes: Iterable[tuple[str, str, datetime | None, Facts]],
    endpoint_id: str,
) -> None:
    """Several of one subject by one statement, as kind, message, when, if not now, and facts."""
    rows = [
        {
            "account_id": account_id,
            "subject_id": subject_id,
            "kind": kind,
            "message": message,
            "created_at": at or now(),
            "endpoint_id": endpoint_id,
            "facts": facts,
        }
        for kind, message, at, facts in notes
    ]
    if rows:
        session.execute(_INSERT, rows)


def list_events(
    session: Session,
    account_id: str,
    *,
    subject_id: str | None = None,
    before_id: int | None = None,
    after_id: int | None = None,
    without: Sequence[str] = (),
    limit: int = 50,
) -> list[Event]:
    """An account's events, newest first; `subject_id` is an endpoint's, a model's or a key's. For the next page give
    the last one's id as `before_id`. With `after_id` it is those that came after that one, oldest first. `without`:
    kinds to leave out."""
    order = Event.id.desc() if after_id is None else Event.id
    query = select(Event).where(Event.account_id == account_id).order_by(order).limit(limit)
    if after_id is not None:
        query = query.where(Event.id > after_id)
    if without:
        query = query.where(Event.kind.not_in(without))
    if subject_id is not None:
        query = query.where(Event.subject_id == subject_id)
    if before_id is not None:
        query = query.where(Event.id < before_id)
    return list(session.scalars(query))
