"""Who did what when."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from loradock.store.tables import Event, now

_INSERT = insert(cast("Table", Event.__table__))
"""Made once, like other statements of what is done often: making one anew takes SQLAlchemy a good part of the time."""


def record(
    session: Session, account_id: str, subject_id: str, kind: str, message: str, at: datetime | None = None
) -> None:
    """`kind` is dotted, e.g. `attach.load`; `at` is when it happened, if not now. Who did it is known from where this
    runs (store.actor)."""
    when = {} if at is None else {"created_at": at}
    session.add(Event(account_id=account_id, subject_id=subject_id, kind=kind, message=message, **when))


def record_all(
    session: Session, account_id: str, subject_id: str, notes: Iterable[tuple[str, str, datetime | None]]
) -> None:
    """Several of one subject by one statement, as kind, message and when, if not now."""
    rows = [
        {
            "account_id": account_id,
            "subject_id": subject_id,
            "kind": kind,
            "message": message,
            "created_at": at or now(),
        }
        for kind, message, at in notes
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
