"""Starting, stopping and deleting an endpoint; what takes adapters offline asks first."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.render import dialog, go_to
from loradock.dashboard.security import signed_in
from loradock.endpoints.rules import attached_names
from loradock.operations import endpoints
from loradock.operations.access import endpoint_for
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn
from loradock.types.access import Action
from loradock.types.errors import LoradockError, NotFound


@signed_in
def start(request: Request, me: SignedIn) -> Response:
    endpoint = endpoints.start(request.app.state.services, me.actor, request.path_params["id"])
    return go_to(request, f"/ui/endpoints/{endpoint.id}")


@signed_in
def stop_form(request: Request, me: SignedIn) -> Response:
    return _ask(request, me, "endpoint_stop.html")


@signed_in
def stop(request: Request, me: SignedIn) -> Response:
    endpoint = endpoints.stop(request.app.state.services, me.actor, request.path_params["id"])
    return go_to(request, f"/ui/endpoints/{endpoint.id}")


@signed_in
def delete_form(request: Request, me: SignedIn) -> Response:
    return _ask(request, me, "endpoint_delete.html")


@signed_in
async def delete(request: Request, me: SignedIn) -> Response:
    """Delete it, with its adapters where the form said so; with some that came since it was shown, it is asked anew."""
    services: Services = request.app.state.services
    detach = bool((await request.form()).get("detach"))
    try:
        await endpoints.delete(services, me.actor, request.path_params["id"], detach=detach)
    except NotFound:
        raise
    except LoradockError as error:
        return await run_in_threadpool(_ask, request, me, "endpoint_delete.html", error)
    return go_to(request, "/ui/endpoints")


def _ask(request: Request, me: SignedIn, template: str, error: LoradockError | None = None) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.READ, request.path_params["id"])
        attached = attached_names(session, endpoint)
    status = 422 if error else 200
    return dialog(request, template, status=status, endpoint=endpoint, attached=attached, error=error)


routes = [
    Route("/ui/endpoints/{id}/start", start, methods=["POST"]),
    Route("/ui/endpoints/{id}/stop", stop_form),
    Route("/ui/endpoints/{id}/stop", stop, methods=["POST"]),
    Route("/ui/endpoints/{id}/delete", delete_form),
    Route("/ui/endpoints/{id}/delete", delete, methods=["POST"]),
]
