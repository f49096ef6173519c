"""Endpoints: the list, and creating and editing one."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.components.endpoint_rows import list_rows
from loradock.dashboard.components.lists import read_asked
from loradock.dashboard.pages.endpoints.endpoint_form import (
    Values,
    empty_form,
    form_of,
    sent_form,
    to_create,
    to_update,
)
from loradock.dashboard.render import go_to, page
from loradock.dashboard.security import signed_in
from loradock.endpoints.attachments import find_adapter
from loradock.endpoints.hardware import machine_hardware
from loradock.operations import adapters, endpoints
from loradock.operations.access import endpoint_for
from loradock.operations.services import Services
from loradock.queries.endpoints import SORTS
from loradock.store.sessions import SignedIn
from loradock.store.tables import Endpoint
from loradock.telemetry.readings import Reading
from loradock.types.access import Action
from loradock.types.enums import EndpointState
from loradock.types.errors import LoradockError, ModelMissing
from loradock.types.names import combined_id


@signed_in
async def index(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    readings = {reading.endpoint_id: reading for reading in services.controller.readings()}
    return await run_in_threadpool(_list, request, me, readings)


def _list(request: Request, me: SignedIn, readings: dict[str, Reading]) -> Response:
    services: Services = request.app.state.services
    asked = read_asked(
        "/ui/endpoints",
        request.query_params,
        sorts=SORTS,
        usual="state",
        filters={"state": [state.lower() for state in EndpointState]},
    )
    with services.database.session() as session:
        return page(request, "endpoints.html", list=list_rows(session, me.account_id, asked, readings))


@signed_in
def new_form(request: Request, me: SignedIn) -> Response:
    deploy = _own_adapter(request, me, request.query_params.get("deploy"))
    return _new(request, me, empty_form(request.query_params.get("model", "")), deploy)


@signed_in
async def new(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    form = await request.form()
    values, named = sent_form(form), form.get("deploy")
    deploy = await run_in_threadpool(_own_adapter, request, me, named if isinstance(named, str) else None)
    try:
        made = await run_in_threadpool(endpoints.create, services, me.actor, to_create(values))
    except LoradockError as error:
        return await run_in_threadpool(_new, request, me, values, deploy, error)
    if deploy and form.get("deploy_now"):
        try:
            await adapters.attach(services, me.actor, made.id, combined_id(made.name, deploy))
        except LoradockError as error:
            return page(request, "endpoint_made.html", status=422, endpoint=made, adapter=deploy, error=error)
    return go_to(request, f"/ui/endpoints/{made.id}")


def _new(
    request: Request, me: SignedIn, values: Values, deploy: str | None, error: LoradockError | None = None
) -> Response:
    services: Services = request.app.state.services
    vllm = services.settings.vllm_python is not None
    return page(
        request,
        "endpoint_new.html",
        status=422 if error else 200,
        values=values,
        errors=_errors(error),
        deploy=deploy,
        bases=[base.name for base in services.bases.at_hand(me.account_id)],
        hardware=[(item, item.usable(vllm=vllm)) for item in machine_hardware()],
        vllm=vllm,
        quantization=services.settings.quantization,
    )


def _own_adapter(request: Request, me: SignedIn, name: str | None) -> str | None:
    """The full name of what is to be attached once the endpoint is there; None when there is no such adapter."""
    if not name:
        return None
    services: Services = request.app.state.services
    with services.database.session() as session:
        try:
            return find_adapter(session, me.account_id, name).name
        except ModelMissing:
            return None


@signed_in
def edit_form(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.CHANGE, request.path_params["id"])
        return _edit_page(request, endpoint, form_of(endpoint))


@signed_in
async def edit(request: Request, me: SignedIn) -> Response:
    return await run_in_threadpool(_edit, request, me, sent_form(await request.form()))


def _edit(request: Request, me: SignedIn, sent: Values) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.CHANGE, request.path_params["id"])
        before = form_of(endpoint)
    values = {**sent, **{fixed: before[fixed] for fixed in ("model", "hardware", "engine")}}
    try:
        endpoints.update(services, me.actor, endpoint.id, to_update(values, before))
    except LoradockError as error:
        return _edit_page(request, endpoint, values, error)
    return go_to(request, f"/ui/endpoints/{endpoint.id}")


def _edit_page(request: Request, endpoint: Endpoint, values: Values, error: LoradockError | None = None) -> Response:
    services: Services = request.app.state.services
    return page(
        request,
        "endpoint_edit.html",
        status=422 if error else 200,
        endpoint=endpoint,
        values=values,
        errors=_errors(error),
        quantization=services.settings.quantization,
    )


def _errors(error: LoradockError | None) -> dict[str, str]:
    """Field → what is wrong with it; "" for what concerns no single field."""
    return {error.param or "": error.message} if error else {}


routes = [
    Route("/ui/endpoints", index),
    Route("/ui/endpoints/new", new_form),
    Route("/ui/endpoints/new", new, methods=["POST"]),
    Route("/ui/endpoints/{id}/edit", edit_form),
    Route("/ui/endpoints/{id}/edit", edit, methods=["POST"]),
]
