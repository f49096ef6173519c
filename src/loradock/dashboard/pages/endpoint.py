"""An endpoint's page: how it is now, kept true while it is open; docking and removing adapters; engine logs."""

import asyncio
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.charts import CHARTS, SPANS, chart_data, span_of
from loradock.dashboard.endpoint_view import SHOWN, EndpointReader, EndpointView
from loradock.dashboard.live import Live, Parts
from loradock.dashboard.render import dialog, fragment, go_to, page
from loradock.dashboard.security import signed_in, who
from loradock.endpoints.attachments import same_base
from loradock.endpoints.rules import find_endpoint
from loradock.store.sessions import SignedIn
from loradock.store.tables import Attachment, Endpoint, Model
from loradock.types.enums import AttachmentState, ModelKind, ModelState
from loradock.types.errors import BadRequest, LoradockError
from loradock.types.names import combined_id

PARTS = ("head", "tiles", "docking", "adapters", "replicas", "capacity")
_BUSY_PAUSE_S, _CALM_PAUSE_S = 0.5, 2.0


@signed_in
async def show(request: Request, me: SignedIn) -> Response:
    view = await EndpointReader(request.app.state.services, me.account_id, request.path_params["id"]).read()
    span = span_of(request, SPANS, "hour")
    return page(request, "endpoint.html", parts=_rendered(view), endpoint=view.endpoint, charts=CHARTS, span=span)


@signed_in
async def live(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    streams: Live = request.app.state.live
    endpoint_id = request.path_params["id"]
    reader = EndpointReader(services, me.account_id, endpoint_id)
    await reader.read()  # the answer to a missing one is no stream
    allowed = partial(_still_signed_in, request, services)
    events = streams.follow((me.account_id, endpoint_id), partial(_parts, reader), allowed)
    return StreamingResponse(events, media_type="text/event-stream")


async def _still_signed_in(request: Request, services: Services) -> bool:
    return await asyncio.to_thread(who, request, services) is not None


async def _parts(reader: EndpointReader) -> Parts:
    view = await reader.read()
    return Parts(await asyncio.to_thread(_rendered, view), _BUSY_PAUSE_S if view.busy else _CALM_PAUSE_S)


def _rendered(view: EndpointView) -> dict[str, str]:
    """Without anything that only one viewer may see: all get the same."""
    return {name: fragment(f"endpoint/{name}.html", view=view, shown=SHOWN) for name in PARTS}


@signed_in
def series(request: Request, me: SignedIn) -> Response:
    """The charts' points as columns, as uPlot takes them."""
    endpoint = _own(request.app.state.services, me, request.path_params["id"])
    span = SPANS[span_of(request, SPANS, "hour")]
    return JSONResponse(chart_data(request.app.state.services, me.account_id, endpoint.id, span, CHARTS))


@signed_in
async def log(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    replica = request.path_params["replica"]
    endpoint = await asyncio.to_thread(_own, services, me, request.path_params["id"])
    text = await services.controller.replica_log(endpoint.deployment.id, replica)
    return dialog(request, "endpoint_log.html", endpoint=endpoint, replica=replica, text=text)


@signed_in
def dock_form(request: Request, me: SignedIn) -> Response:
    return _dock_dialog(request, me)


@signed_in
async def dock(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    adapter = await _sent_adapter(request)
    endpoint = await asyncio.to_thread(_own, services, me, request.path_params["id"])
    try:
        if not adapter:
            raise BadRequest("choose the adapter to dock", param="model_id")
        await services.controller.attach(me.account_id, endpoint.id, combined_id(endpoint.name, adapter))
    except LoradockError as error:
        return await asyncio.to_thread(_dock_dialog, request, me, adapter, error)
    return _changed(request, endpoint.id)


def _dock_dialog(request: Request, me: SignedIn, chosen: str = "", error: LoradockError | None = None) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoint = find_endpoint(session, me.account_id, request.path_params["id"])
        return dialog(
            request,
            "endpoint_dock.html",
            status=422 if error else 200,
            endpoint=endpoint,
            adapters=_dockable(session, me.account_id, endpoint),
            chosen=chosen,
            error=error,
        )


def _dockable(session: Session, account_id: str, endpoint: Endpoint) -> list[Model]:
    """Own adapters for this base that are bound nowhere, newest first."""
    bound = select(Attachment.model_id).where(Attachment.state != AttachmentState.DETACHING)
    query = select(Model).where(
        Model.account_id == account_id,
        Model.kind == ModelKind.ADAPTER,
        Model.state == ModelState.READY,
        Model.id.not_in(bound),
    )
    found = session.scalars(query.options(selectinload(Model.revisions)).order_by(Model.created_at.desc()))
    return [model for model in found if same_base(model.base_model, endpoint.deployment.base_model)]


@signed_in
def remove_form(request: Request, me: SignedIn) -> Response:
    return _remove_dialog(request, me, request.query_params.get("adapter", ""))


@signed_in
async def remove(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    adapter = await _sent_adapter(request)
    endpoint = await asyncio.to_thread(_own, services, me, request.path_params["id"])
    try:
        await services.controller.detach(me.account_id, endpoint.id, combined_id(endpoint.name, adapter))
    except LoradockError as error:
        return await asyncio.to_thread(_remove_dialog, request, me, adapter, error)
    return _changed(request, endpoint.id)


def _remove_dialog(request: Request, me: SignedIn, adapter: str, error: LoradockError | None = None) -> Response:
    endpoint = _own(request.app.state.services, me, request.path_params["id"])
    status = 422 if error else 200
    return dialog(request, "endpoint_remove.html", status=status, endpoint=endpoint, adapter=adapter, error=error)


async def _sent_adapter(request: Request) -> str:
    sent = (await request.form()).get("adapter")
    return sent if isinstance(sent, str) else ""


def _changed(request: Request, endpoint_id: str) -> Response:
    """The page behind the dialog is live: it only has to be seen again."""
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-trigger": "dialog-done"})
    return go_to(request, f"/ui/endpoints/{endpoint_id}")


def _own(services: Services, me: SignedIn, reference: str) -> Endpoint:
    with services.database.session() as session:
        endpoint = find_endpoint(session, me.account_id, reference)
        assert endpoint.deployment  # read while the session is open
        return endpoint


routes = [
    Route("/ui/endpoints/{id}", show),
    Route("/ui/endpoints/{id}/live", live),
    Route("/ui/endpoints/{id}/series", series),
    Route("/ui/endpoints/{id}/replicas/{replica}/log", log),
    Route("/ui/endpoints/{id}/dock", dock_form),
    Route("/ui/endpoints/{id}/dock", dock, methods=["POST"]),
    Route("/ui/endpoints/{id}/remove", remove_form),
    Route("/ui/endpoints/{id}/remove", remove, methods=["POST"]),
]
