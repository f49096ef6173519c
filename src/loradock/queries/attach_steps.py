"""The steps of an attach as its events tell them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loradock.store.tables import Event, Model
from loradock.types.enums import AttachStep

_UNDONE = "attach.undone"


class Progress(StrEnum):
    """The progress of a step."""

    DONE = "done"
    NOW = "now"
    FAILED = "failed"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class Step:
    name: AttachStep
    progress: Progress
    done_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """`failure`: why the attach was undone."""

    steps: list[Step]
    failure: str | None

    @property
    def finished(self) -> bool:
        return self.steps[-1].progress is Progress.DONE


def newest_event(session: Session, model: Model) -> int:
    return session.scalar(select(func.max(Event.id)).where(Event.subject_id == model.id)) or 0


def steps_since(session: Session, model: Model, since: int) -> Steps:
    """Return the steps of the last attach among the events after number `since`."""
    query = select(Event).where(Event.subject_id == model.id, Event.id > since, Event.kind.startswith("attach."))
    events = list(session.scalars(query.order_by(Event.id)))
    begins = [n for n, event in enumerate(events) if event.kind == f"attach.{AttachStep.AUTHORIZE}"]
    return steps_of(events[begins[-1] :] if begins else events)


def steps_of(events: list[Event]) -> Steps:
    """Return the steps of one attach."""
    undone = next((event for event in events if event.kind == _UNDONE), None)
    failure = undone.message if undone else None
    done = {event.kind: event.created_at for event in events}
    failed_at = (undone.facts or {}).get("step") if undone else None
    reached = False
    steps = []
    for step in AttachStep:
        progress = Progress.AHEAD
        if f"attach.{step}" in done:
            progress = Progress.DONE
        elif failed_at == step:
            progress = Progress.FAILED
        elif not failure and not reached:
            progress = Progress.NOW
        reached = reached or progress is not Progress.DONE
        steps.append(Step(step, progress, done.get(f"attach.{step}")))
    return Steps(steps, failure)
