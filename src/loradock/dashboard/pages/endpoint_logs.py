"""What the engines of an endpoint's replicas wrote: the end of it, following on."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.control.views import ReplicaFacts
from loradock.dashboard.pages.endpoint import own_endpoint
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.store.sessions import SignedIn
from loradock.types.errors import NotFound

LINES = (200, 1000, 5000)


@signed_in
async def logs(request: Request, me: SignedIn) -> Response:
    """Of the replica asked for, else of the first that failed, else of the first."""
    services: Services = request.app.state.services
    endpoint = await run_in_threadpool(own_endpoint, request, me)
    deployment = endpoint.deployment.id
    replicas = await services.controller.replicas(deployment)
    asked = request.path_params.get("replica")
    if asked is not None and asked not in {replica.id for replica in replicas}:
        raise NotFound("This replica is gone, and its log with it.")
    replica = asked or _first(replicas)
    lines = _lines(request)
    text = await services.controller.replica_log(deployment, replica, lines) if replica else ""
    words = request.query_params.get("q", "").strip()[:200]
    return page(
        request,
        "endpoint_logs.html",
        endpoint=endpoint,
        replicas=replicas,
        replica=replica,
        lines=lines,
        choices=LINES,
        words=words,
        text=_only(text, words),
        unwritten=not text,
    )


def _first(replicas: list[ReplicaFacts]) -> str | None:
    by_trouble = sorted(replicas, key=lambda replica: replica.failure is None)
    return by_trouble[0].id if by_trouble else None


def _lines(request: Request) -> int:
    asked = request.query_params.get("lines", "")
    return int(asked) if asked in {str(choice) for choice in LINES} else LINES[0]


def _only(text: str, words: str) -> str:
    return "\n".join(line for line in text.splitlines() if words.lower() in line.lower()) if words else text


routes = [
    Route("/ui/endpoints/{id}/logs", logs),
    Route("/ui/endpoints/{id}/replicas/{replica}/log", logs),
]
