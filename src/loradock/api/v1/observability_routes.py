"""GET /metrics for Prometheus, and /v1/events: who did what when."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from loradock.api.listing import Listed
from loradock.api.services import ActorDep, ServicesDep
from loradock.api.v1.answers import EventItem
from loradock.api.v1.attach_summary import summarised
from loradock.api.v1.views import event_view
from loradock.queries.endpoints import names_by_id
from loradock.queries.events import subject_id_of
from loradock.store.events import INTERMEDIATE_ATTACH_KINDS, list_events
from loradock.telemetry.prometheus import render

router = APIRouter()
_LARGEST = (1 << 63) - 1


@router.get("/metrics", response_model=None)
async def metrics(request: Request, actor: ActorDep, services: ServicesDep) -> Response:
    """The account's own endpoints."""

    def names() -> dict[str, str]:
        with services.database.session() as session:
            return names_by_id(session, actor.account_id)

    endpoints = await run_in_threadpool(names)
    served, readings = services.meter.now_served(endpoints), services.controller.readings()
    accept = request.headers.get("accept", "")
    body, content_type = await run_in_threadpool(render, endpoints, served, readings, accept)
    return Response(body, headers={"content-type": content_type})


@router.get("/v1/events")
def events(
    actor: ActorDep,
    services: ServicesDep,
    subject: str | None = None,
    before: Annotated[int | None, Query(le=_LARGEST)] = None,
    after: Annotated[int | None, Query(ge=0, le=_LARGEST)] = None,
    steps: bool = True,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Listed[EventItem]:
    """Newest first. `subject`: the id or name of an endpoint or model, or a key's id. `before`: the last event's id
    of the page before. `after`: only what came after this event, oldest first. Without `steps` an attach is one
    event, its last."""
    with services.database.session() as session:
        subject_id = subject and subject_id_of(session, actor.account_id, subject)
        found = list_events(
            session,
            actor.account_id,
            subject_id=subject_id,
            before_id=before,
            after_id=after,
            without=() if steps else INTERMEDIATE_ATTACH_KINDS,
            limit=limit + 1,
        )
        shown = found[:limit]
        views = [event_view(event) for event in shown] if steps else summarised(shown)
        return {"object": "list", "data": views, "has_more": len(found) > limit}
