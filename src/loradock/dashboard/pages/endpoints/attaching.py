"""Attaching adapters to an endpoint and detaching them, from the endpoint's own page: one or many at once."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard import actions as deeds
from loradock.dashboard.components.endpoint_adapters import asked_adapters, read_adapters_asked
from loradock.dashboard.components.endpoint_view import refused_by, uses_of
from loradock.dashboard.pages.endpoints.endpoint import own_endpoint
from loradock.dashboard.pages.models.bulk import attaching, begin, detaching
from loradock.dashboard.render import dialog, go_to
from loradock.dashboard.security import signed_in
from loradock.dashboard.selection import sent_names
from loradock.operations.access import endpoint_for
from loradock.operations.services import Services
from loradock.queries.endpoint_adapters import attached_matching
from loradock.queries.free_adapters import free_adapters
from loradock.store.sessions import SignedIn
from loradock.types.access import Action
from loradock.types.errors import BadRequest, LoradockError

_CHOICES = 50
"""Adapters to choose from at once; the search narrows them."""


@signed_in
def attach_form(request: Request, me: SignedIn) -> Response:
    return _attach_dialog(request, me, sent_names(request.query_params))


@signed_in
async def attach(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    names = sent_names(await request.form())
    endpoint = await run_in_threadpool(own_endpoint, request, me)
    if len(names) > 1:
        back = f"/ui/endpoints/{endpoint.id}"
        return begin(request, *attaching(services, me, endpoint.id, endpoint.display_name, names, back))
    try:
        if not names:
            raise BadRequest("Tick the adapters to attach.", param="model_id")
        await deeds.attach(services, me, endpoint.id, names[0])
    except LoradockError as error:
        return await run_in_threadpool(_attach_dialog, request, me, names, error)
    return _changed(request, endpoint.id)


@signed_in
async def detach_form(request: Request, me: SignedIn) -> Response:
    names = sent_names(request.query_params)
    if request.query_params.get("all"):
        services: Services = request.app.state.services
        endpoint = await run_in_threadpool(own_endpoint, request, me)
        refused = refused_by(await services.controller.replicas(endpoint.deployment.id))
        names = await run_in_threadpool(_all, request, me, refused)
    return await run_in_threadpool(_detach_dialog, request, me, names)


@signed_in
async def detach(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    names = sent_names(await request.form())
    endpoint = await run_in_threadpool(own_endpoint, request, me)
    if len(names) > 1:
        back = f"/ui/endpoints/{endpoint.id}"
        return begin(request, *detaching(services, me, endpoint.id, endpoint.display_name, names, back))
    try:
        if not names:
            raise BadRequest("Tick the adapters to detach.", param="model_id")
        await deeds.detach(services, me, names[0], endpoint.id)
    except LoradockError as error:
        return await run_in_threadpool(_detach_dialog, request, me, names, error)
    return _changed(request, endpoint.id)


def _attach_dialog(request: Request, me: SignedIn, chosen: list[str], error: LoradockError | None = None) -> Response:
    """Render the dialog. What is chosen stands first, whatever is searched for, so that nothing is chosen that nobody
    sees."""
    services: Services = request.app.state.services
    text = request.query_params.get("q", "").strip()[:200]
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.READ, request.path_params["id"])
        free = free_adapters(session, me.account_id, endpoint, chosen, text, _CHOICES)
        return dialog(
            request,
            "endpoint_attach.html",
            status=422 if error else 200,
            endpoint=endpoint,
            chosen=free.chosen,
            adapters=free.others,
            matching=free.matching,
            all=free.all,
            text=text,
            error=error,
        )


def _detach_dialog(request: Request, me: SignedIn, names: list[str], error: LoradockError | None = None) -> Response:
    endpoint = own_endpoint(request, me)
    status = 422 if error else 200
    return dialog(request, "endpoint_detach.html", status=status, endpoint=endpoint, adapters=names, error=error)


def _all(request: Request, me: SignedIn, refused: list[str]) -> list[str]:
    """Return all that match what the list was asked for, on whatever page."""
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.READ, request.path_params["id"])
        asked = read_adapters_asked(endpoint.id, request.query_params)
        uses = uses_of(session, me.account_id, endpoint.id) if asked.filters["only"] else {}
        return attached_matching(session, asked_adapters(endpoint.deployment.id, asked, uses, refused), asked.text)


def _changed(request: Request, endpoint_id: str) -> Response:
    """The page behind the dialog is live: it only has to be seen again."""
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-trigger": "dialog-done"})
    return go_to(request, f"/ui/endpoints/{endpoint_id}")


routes = [
    Route("/ui/endpoints/{id}/attach", attach_form),
    Route("/ui/endpoints/{id}/attach", attach, methods=["POST"]),
    Route("/ui/endpoints/{id}/detach", detach_form),
    Route("/ui/endpoints/{id}/detach", detach, methods=["POST"]),
]
