"""The newest attaches to an endpoint, from the events that they leave."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.queries.attach_steps import Step, Steps, steps_of
from loradock.store.tables import Event
from loradock.types.enums import AttachStep

_LOOK_BACK = 300
"""Events of the endpoint: many more than a few attaches leave, also where they go on side by side."""
_FIRST = f"attach.{AttachStep.AUTHORIZE}"


@dataclass(slots=True)
class OneAttach:
    """An attach of `adapter`, with its events in order."""

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
        """Return how long after the attach began the step was done."""
        if step.done_at is None:
            return None
        return round((step.done_at - self.began.created_at).total_seconds() * 1000)


def newest_attaches(session: Session, account_id: str, endpoint_id: str, most: int = 3) -> list[OneAttach]:
    """Return attaches of the account's adapters to the endpoint, newest first."""
    of_endpoint = (Event.account_id == account_id) & (Event.endpoint_id == endpoint_id)
    query = select(Event).where(of_endpoint, Event.kind.startswith("attach.")).order_by(Event.id.desc())
    return _follow(list(session.scalars(query.limit(_LOOK_BACK)))[::-1])[::-1][:most]


def _follow(events: Iterable[Event]) -> list[OneAttach]:
    found: list[OneAttach] = []
    current: dict[str, OneAttach] = {}  # by adapter
    for event in events:
        if event.kind == _FIRST:
            current[event.subject_id] = OneAttach((event.facts or {}).get("adapter", ""))
            found.append(current[event.subject_id])
        if attach := current.get(event.subject_id):
            attach.events.append(event)
    return found
