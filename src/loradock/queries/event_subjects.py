"""Finds the subjects of events by name: also what is gone since."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.store.tables import ApiKey, Endpoint, Event, Model


@dataclass(frozen=True, slots=True)
class Subject:
    """`gone`: deleted since, or never accepted."""

    name: str
    gone: bool = False


_LAST = ("model.deleted", "endpoint.deleted", "model.upload_failed")
"""Events that things leave behind, with their names."""


def subjects_of(session: Session, account_id: str, ids: Collection[str]) -> dict[str, Subject]:
    """Return the subjects by id."""
    models = session.scalars(select(Model).where(Model.account_id == account_id, Model.id.in_(ids)))
    endpoints = session.scalars(select(Endpoint).where(Endpoint.account_id == account_id, Endpoint.id.in_(ids)))
    keys = session.scalars(select(ApiKey).where(ApiKey.account_id == account_id, ApiKey.id.in_(ids)))
    known = {
        **{model.id: Subject(model.name) for model in models},
        **{endpoint.id: Subject(endpoint.display_name) for endpoint in endpoints},
        **{key.id: Subject(f"key {key.label}") for key in keys},
    }
    gone = [id_ for id_ in ids if id_ not in known]
    return known | _of_gone(session, account_id, gone)


def _of_gone(session: Session, account_id: str, ids: Collection[str]) -> dict[str, Subject]:
    if not ids:
        return {}
    query = select(Event.subject_id, Event.facts).where(
        Event.account_id == account_id, Event.subject_id.in_(ids), Event.kind.in_(_LAST)
    )
    return {subject: Subject(facts["name"], gone=True) for subject, facts in session.execute(query) if facts}
