"""Recording who did what when."""

from sqlalchemy.orm import Session

from loradock.store.tables import Event


def record(session: Session, account_id: str, subject_id: str, kind: str, message: str) -> None:
    """`kind` is dotted, e.g. `attach.load`."""
    session.add(Event(account_id=account_id, subject_id=subject_id, kind=kind, message=message))
