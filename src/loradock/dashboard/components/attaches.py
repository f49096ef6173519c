"""The newest attaches to an endpoint, from the events that they leave."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loradock.dashboard.components.attach_steps import Step, Steps, steps_of
from loradock.store.tables import Event
from loradock.types.enums import AttachStep

_LOOK_BACK = 1000
"""Events of all accounts: the primary key finds them at once, however long the history is."""
_FIRST = f"attach.{AttachStep.AUTHORIZE}"


@dataclass(slots=True)
class OneAttach:
    """Of `adapter`, with its events in order."""

    adapter: str
    events: list[Event] = field(default_factory=list)

    @property
    def began(self) -> Event:
        return self.events[0]

    @property
    def steps(self) -> Steps:
        return steps_of(self.events)

    @property
    def running(self) -> bool:
        return not self.steps.finished and self.steps.failure is None

    def milliseconds(self, step: Step) -> int | None:
        """How long after the attach began the step was done."""
        if step.done_at is None:
            return None
        return round((step.done_at - self.began.created_at).total_seconds() * 1000)


def newest_attaches(session: Session, account_id: str, endpoint_name: str, most: int = 3) -> list[OneAttach]:
    """Of the account to the endpoint, newest first."""
    newest = session.scalar(select(func.max(Event.id))) or 0
    query = select(Event).where(
        Event.id > newest - _LOOK_BACK, Event.account_id == account_id, Event.kind.startswith("attach.")
    )
    return _follow(session.scalars(query.order_by(Event.id)), endpoint_name)[::-1][:most]


def _follow(events: Iterable[Event], endpoint_name: str) -> list[OneAttach]:
    found: list[OneAttach] = []
    current: dict[str, OneAttach] = {}  # by adapter; those that are being attached to this endpoint
    for event in events:
        if event.kind == _FIRST:
            adapter, _, endpoint = event.message.partition(" → ")
            current.pop(event.subject_id, None)
            if endpoint == endpoint_name:
                current[event.subject_id] = OneAttach(adapter)
                found.append(current[event.subject_id])
        if attach := current.get(event.subject_id):
            attach.events.append(event)
    return found
