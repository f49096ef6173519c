"""An endpoint's page: how it is now, kept true while it is open."""

from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loradock.dashboard.components.charts import CHARTS, SPANS, chart_data, span_of
from loradock.dashboard.components.endpoint_adapters import read_adapters_asked
from loradock.dashboard.components.endpoint_view import EndpointReader, EndpointView
from loradock.dashboard.live import HEADERS, Live, Parts
from loradock.dashboard.render import fragment, page
from loradock.dashboard.security import signed_in, who
from loradock.operations.access import endpoint_for
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn
from loradock.store.tables import Endpoint
from loradock.types.access import Action
from loradock.types.enums import EngineKind, quantization_in_effect

PARTS = ("head", "tiles", "attaching", "adapters", "replicas", "capacity")
_BUSY_PAUSE_S, _CALM_PAUSE_S = 0.5, 2.0


@signed_in
async def show(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    view = await _reader(request, me).read()
    span = span_of(request, SPANS, "hour")
    return page(
        request,
        "endpoint.html",
        parts=_rendered(view),
        endpoint=view.endpoint,
        list=view.adapters,
        charts=CHARTS,
        span=span,
        weights=weights(services, view.endpoint),
    )


@signed_in
async def live(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    streams: Live = request.app.state.live
    reader = _reader(request, me)
    view = await reader.read()  # the answer to a missing one is not a stream
    allowed = partial(_still_signed_in, request, services)
    key = me.account_id, view.endpoint.id, view.adapters.asked.address(page=view.adapters.asked.page)
    events = streams.follow(key, partial(_parts, reader), allowed)
    return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)


@signed_in
def series(request: Request, me: SignedIn) -> Response:
    """The charts' points as columns, as uPlot takes them."""
    endpoint = own_endpoint(request, me)
    span = SPANS[span_of(request, SPANS, "hour")]
    return JSONResponse(chart_data(request.app.state.services, me.account_id, endpoint.id, span, CHARTS))


def own_endpoint(request: Request, me: SignedIn) -> Endpoint:
    """The endpoint of the address. Raises EndpointMissing."""
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.READ, request.path_params["id"])
        assert endpoint.deployment  # read while the session is open
        return endpoint


def weights(services: Services, endpoint: Endpoint) -> str:
    """Return in how many bits its engines keep the base model's weights."""
    if endpoint.deployment.engine is EngineKind.VLLM:
        return "as vLLM loads them"
    quantization = quantization_in_effect(endpoint.deployment.quantization, services.settings.quantization)
    return {None: "16 bit", "int8": "8 bit (int8)", "int4": "4 bit (int4)"}[quantization]


def _reader(request: Request, me: SignedIn) -> EndpointReader:
    endpoint_id = request.path_params["id"]
    asked = read_adapters_asked(endpoint_id, request.query_params)
    return EndpointReader(request.app.state.services, me.account_id, endpoint_id, asked)


async def _still_signed_in(request: Request, services: Services) -> bool:
    return await run_in_threadpool(who, request, services) is not None


async def _parts(reader: EndpointReader) -> Parts:
    view = await reader.read()
    return Parts(await run_in_threadpool(_rendered, view), _BUSY_PAUSE_S if view.busy else _CALM_PAUSE_S)


def _rendered(view: EndpointView) -> dict[str, str]:
    """Render the page without anything that only one viewer may see: all who asked for the same get the same."""
    return {name: fragment(f"endpoint/{name}.html", view=view, list=view.adapters) for name in PARTS}


routes = [
    Route("/ui/endpoints/{id}", show),
    Route("/ui/endpoints/{id}/live", live),
    Route("/ui/endpoints/{id}/series", series),
]
