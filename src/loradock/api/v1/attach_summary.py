"""Attaches told by their last event: to which endpoint, and how long it took or why it failed."""

from collections.abc import Sequence

from loradock.api.v1.answers import EventItem
from loradock.api.v1.views import event_view
from loradock.store.tables import Event
from loradock.types.enums import AttachStep

_ROUTED = f"attach.{AttachStep.ROUTE}"


def summarised(events: Sequence[Event]) -> list[EventItem]:
    """`events` are without those of INTERMEDIATE_ATTACH_KINDS."""
    return [_summary(event) for event in events]


def _summary(event: Event) -> EventItem:
    view, facts = event_view(event), event.facts or {}
    if "duration_ms" not in facts:
        return view
    took = facts["duration_ms"]
    how = f"attached in {took} ms" if event.kind == _ROUTED else f"not attached: {event.message}"
    view["endpoint"] = facts["endpoint"]
    view["duration_ms"] = took
    view["message"] = f"{facts['adapter']} → {facts['endpoint']}: {how}"
    return view
