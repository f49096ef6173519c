"""Attaches told by their last event: to which endpoint, and how long it took or why it failed."""

from collections.abc import Sequence
from typing import Any

from loradock.api.v1.views import event_view
from loradock.store.tables import Event
from loradock.types.enums import AttachStep

_ROUTED = f"attach.{AttachStep.ROUTE}"


def summarised(events: Sequence[Event]) -> list[dict[str, Any]]:
    """`events` are without those of INTERMEDIATE_ATTACH_KINDS."""
    return [{**event_view(event), **_of_attach(event)} for event in events]


def _of_attach(event: Event) -> dict[str, Any]:
    facts = event.facts or {}
    if "duration_ms" not in facts:
        return {}
    took = facts["duration_ms"]
    how = f"attached in {took} ms" if event.kind == _ROUTED else f"not attached: {event.message}"
    message = f"{facts['adapter']} → {facts['endpoint']}: {how}"
    return {"endpoint": facts["endpoint"], "duration_ms": took, "message": message}
