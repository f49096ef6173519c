"""Many adapters at once: what would happen is asked first, then it is done row by row, and every row has its result."""

from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from loradock.dashboard import actions as deeds
from loradock.dashboard.pages.models.models import asked_for, search_of
from loradock.dashboard.render import dialog
from loradock.dashboard.runs import Act, Run, Runs, lines_of
from loradock.dashboard.security import signed_in
from loradock.dashboard.selection import MOST, sent_names
from loradock.operations.access import endpoint_for
from loradock.operations.services import Services
from loradock.queries.adapters import matching_names
from loradock.queries.placed_adapters import places, ready_adapters, targets
from loradock.store.sessions import SignedIn
from loradock.types.access import Action
from loradock.types.errors import BadRequest, LoradockError

DEEDS = ("attach", "detach", "delete")
_SHOWN = 200
"""Rows of a run on its page."""


@signed_in
def ask(request: Request, me: SignedIn) -> Response:
    asked = request.query_params
    names = _all(request, me) if asked.get("all") else sent_names(asked)
    return _ask(request, me, asked.get("do", ""), names)


@signed_in
async def start(request: Request, me: SignedIn) -> Response:
    form = await request.form()
    do, endpoint, names = str(form.get("do", "")), str(form.get("endpoint", "")), sent_names(form)
    try:
        run, act = await run_in_threadpool(_planned, request, me, do, endpoint, names)
    except LoradockError as error:
        return await run_in_threadpool(_ask, request, me, do, names, error, endpoint)
    return begin(request, run, act)


def begin(request: Request, run: Run, act: Act) -> Response:
    """Starts it and shows how it goes."""
    runs: Runs = request.app.state.runs
    runs.start(run, act)
    if "hx-request" in request.headers:
        return _show(request, run)
    return RedirectResponse(f"/ui/bulk/{run.id}", 303)


@signed_in
async def show(request: Request, me: SignedIn) -> Response:
    return _show(request, _run(request, me))


@signed_in
async def stop(request: Request, me: SignedIn) -> Response:
    """Stop the run once what is going on has ended."""
    run = _run(request, me)
    run.stopping = True
    if "hx-request" in request.headers:
        return _show(request, run)
    return RedirectResponse(f"/ui/bulk/{run.id}", 303)


def _run(request: Request, me: SignedIn) -> Run:
    runs: Runs = request.app.state.runs
    return runs.find(me.account_id, request.path_params["id"])


def _show(request: Request, run: Run) -> Response:
    response = dialog(request, "run.html", run=run, lines=run.shown(_SHOWN), counts=run.counts)
    response.headers["hx-trigger"] = "changed"
    return response


def _all(request: Request, me: SignedIn) -> list[str]:
    """All that match what the list was asked for, on whatever page."""
    services: Services = request.app.state.services
    with services.database.session() as session:
        return matching_names(session, me.account_id, search_of(asked_for(request)), MOST)


def _planned(request: Request, me: SignedIn, do: str, endpoint_id: str, names: list[str]) -> tuple[Run, Act]:
    """Raises LoradockError."""
    services: Services = request.app.state.services
    if do not in DEEDS:
        raise BadRequest("Choose what to do: attach, detach or delete.")
    with services.database.session() as session:
        known = [one.name for one in ready_adapters(session, me.account_id, names)]
        if not known:
            raise BadRequest("Tick at least one adapter.")
        if do == "attach":
            if not endpoint_id:
                raise BadRequest("Select an endpoint first.", param="endpoint")
            endpoint = endpoint_for(session, me.actor, Action.ATTACH, endpoint_id)
            return attaching(services, me, endpoint.id, endpoint.display_name, known, "/ui/models")
    run = Run(me.account_id, {"detach": "Detaching", "delete": "Deleting"}[do], "", "/ui/models", lines_of(known))
    return run, partial(deeds.detach if do == "detach" else deeds.delete, services, me)


def attaching(
    services: Services, me: SignedIn, endpoint_id: str, endpoint: str, names: list[str], back: str
) -> tuple[Run, Act]:
    run = Run(me.account_id, "Attaching", f" to {endpoint}", back, lines_of(names))
    return run, partial(deeds.attach, services, me, endpoint_id)


def detaching(
    services: Services, me: SignedIn, endpoint_id: str, endpoint: str, names: list[str], back: str
) -> tuple[Run, Act]:
    async def act(name: str) -> str:
        return await deeds.detach(services, me, name, endpoint_id)

    return Run(me.account_id, "Detaching", f" from {endpoint}", back, lines_of(names)), act


def _ask(
    request: Request,
    me: SignedIn,
    do: str,
    names: list[str],
    error: LoradockError | None = None,
    chosen: str = "",
) -> Response:
    services: Services = request.app.state.services
    if do not in DEEDS:
        do = "attach"
    with services.database.session() as session:
        adapters = ready_adapters(session, me.account_id, names)
        return dialog(
            request,
            "bulk.html",
            status=422 if error else 200,
            do=do,
            adapters=adapters,
            attached=sum(one.endpoint is not None for one in adapters),
            places=places(adapters).most_common(),
            targets=targets(session, me.account_id, adapters) if do == "attach" else [],
            error=error,
            chosen=chosen,
        )


routes = [
    Route("/ui/bulk", ask),
    Route("/ui/bulk", start, methods=["POST"]),
    Route("/ui/bulk/{id}", show),
    Route("/ui/bulk/{id}/stop", stop, methods=["POST"]),
]
