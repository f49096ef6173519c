"""Detaching an adapter from its endpoint, and deleting a model: both ask first."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.pages.models.model import name_of
from loradock.dashboard.render import dialog, go_to
from loradock.dashboard.security import signed_in
from loradock.endpoints.attachments import binding
from loradock.operations import adapters, models
from loradock.operations.access import adapter_for, endpoint_for, model_for
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn
from loradock.types.access import Action
from loradock.types.errors import LoradockError, ModelMissing
from loradock.types.names import combined_id


@signed_in
def ask_detach(request: Request, me: SignedIn) -> Response:
    return _ask_detach(request, me)


@signed_in
async def detach(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    sent = (await request.form()).get("endpoint")
    try:
        model_id = await run_in_threadpool(_combined, services, me, name_of(request), str(sent or ""))
        await adapters.detach(services, me.actor, str(sent), model_id)
    except LoradockError as error:
        return await run_in_threadpool(_ask_detach, request, me, error.message)
    return go_to(request, f"/ui/models/{name_of(request)}")


@signed_in
def ask_delete(request: Request, me: SignedIn) -> Response:
    return _ask_delete(request, me)


@signed_in
async def delete(request: Request, me: SignedIn) -> Response:
    """An adapter is detached first where the form said so."""
    services: Services = request.app.state.services
    name = name_of(request)
    try:
        if (await request.form()).get("detach"):
            await models.detach_and_delete(services, me.actor, name)
        else:
            await run_in_threadpool(models.delete, services, me.actor, name)
    except ModelMissing:
        raise
    except LoradockError as error:
        return await run_in_threadpool(_ask_delete, request, me, error.message)
    return go_to(request, "/ui/models")


def _combined(services: Services, me: SignedIn, name: str, endpoint_id: str) -> str:
    """The combined id at the endpoint that the dialog was about. Raises EndpointMissing."""
    with services.database.session() as session:
        adapter = adapter_for(session, me.actor, Action.DETACH, name)
        return combined_id(endpoint_for(session, me.actor, Action.DETACH, endpoint_id).name, adapter.name)


def _ask_detach(request: Request, me: SignedIn, error: str | None = None) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        adapter = adapter_for(session, me.actor, Action.READ, name_of(request))
        bound = binding(session, adapter)
        status = 422 if error else 200
        return dialog(request, "detach.html", status=status, model=adapter, bound=bound, error=error)


def _ask_delete(request: Request, me: SignedIn, error: str | None = None) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        model = model_for(session, me.actor, Action.DELETE, name_of(request))
        bound = binding(session, model)
        status = 422 if error else 200
        return dialog(request, "delete_model.html", status=status, model=model, bound=bound, error=error)


routes = [
    Route("/ui/models/{account}/{name}/detach", ask_detach),
    Route("/ui/models/{account}/{name}/detach", detach, methods=["POST"]),
    Route("/ui/models/{account}/{name}/delete", ask_delete),
    Route("/ui/models/{account}/{name}/delete", delete, methods=["POST"]),
]
