"""The logs of an endpoint's replicas: the end of them, following on."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.control.views import ReplicaFacts
from loradock.dashboard.pages.endpoints.endpoint import own_endpoint
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn
from loradock.types.errors import NotFound

LINES = (200, 1000, 5000)


@signed_in
async def logs(request: Request, me: SignedIn) -> Response:
    """Show the log of the replica asked for, else of the likeliest to be looked for; the last lost ones can be read,
    too."""
    services: Services = request.app.state.services
    endpoint = await run_in_threadpool(own_endpoint, request, me)
    deployment = endpoint.deployment.id
    lines = _lines(request)
    texts = {replica: text for replica, text, _ in await services.controller.logs(deployment, None, lines, 0)}
    running = await services.controller.replicas(deployment)
    asked = request.path_params.get("replica")
    if asked is not None and asked not in texts:
        raise NotFound("This replica is gone, and its log with it.")
    replica = asked or _likeliest(list(texts), running)
    words = request.query_params.get("q", "").strip()[:200]
    text = texts[replica] if replica else ""
    return page(
        request,
        "endpoint_logs.html",
        endpoint=endpoint,
        replicas=_named(list(texts), running),
        replica=replica,
        lines=lines,
        choices=LINES,
        words=words,
        text=_only(text, words),
        unwritten=not text,
    )


def _named(logged: list[str], running: list[ReplicaFacts]) -> list[tuple[str, str]]:
    """Replicas that run first; (its id, what is wrong with it)."""
    states = {one.id: "failed" if one.failure else "" for one in running}
    found = [(replica, states.get(replica, "lost")) for replica in logged]
    return sorted(found, key=lambda one: one[0] not in states)


def _likeliest(logged: list[str], running: list[ReplicaFacts]) -> str | None:
    """Return one that failed, else one that runs, else the one that was lost last."""
    failed = [one.id for one in running if one.failure and one.id in logged]
    runs = [one.id for one in running if one.id in logged]
    return next(iter([*failed, *runs, *logged[::-1]]), None)


def _lines(request: Request) -> int:
    asked = request.query_params.get("lines", "")
    return int(asked) if asked in {str(choice) for choice in LINES} else LINES[0]


def _only(text: str, words: str) -> str:
    return "\n".join(line for line in text.splitlines() if words.lower() in line.lower()) if words else text


routes = [
    Route("/ui/endpoints/{id}/logs", logs),
    Route("/ui/endpoints/{id}/replicas/{replica}/log", logs),
]
