"""/v1/endpoints, /v1/hardware and /v1/clusters/availability-zones."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from loradock.api.listing import PageDep
from loradock.api.paths import decode_segment
from loradock.api.services import CallerDep, ServicesDep
from loradock.api.unknown_fields import remarked
from loradock.api.v1 import endpoint_changes
from loradock.api.v1.bodies import CreateEndpoint, UpdateEndpoint
from loradock.api.v1.views import Json, as_list, endpoint_item, endpoint_view, hardware_view, replica_view
from loradock.endpoints import rules
from loradock.endpoints.hardware import ZONE, machine_hardware
from loradock.store.tables import iso, now
from loradock.types.enums import EndpointKind

router = APIRouter(prefix="/v1")
_STARTED = iso(now())


@router.post("/endpoints")
def create(
    body: CreateEndpoint, caller: CallerDep, services: ServicesDep, availability_zone: str | None = None
) -> Json:
    return remarked(endpoint_changes.create(services, caller, body, availability_zone), body.remarks())


@router.get("/endpoints")
def index(
    caller: CallerDep,
    services: ServicesDep,
    page: PageDep,
    type: EndpointKind | None = None,
    mine: bool | None = None,
    usage_type: Literal["on-demand", "reserved"] | None = None,
) -> Json:
    """`mine` changes nothing: an account sees its own only. Nothing here is `reserved`."""
    if usage_type == "reserved":
        return as_list([])
    with services.database.session() as session:
        found = rules.list_endpoints(session, caller.account_id, type)
        return page.listed([endpoint_item(endpoint, services.settings.quantization) for endpoint in found])


@router.get("/endpoints/{reference:path}/replicas")
async def replicas(reference: str, caller: CallerDep, services: ServicesDep) -> Json:
    def find() -> str:
        with services.database.session() as session:
            return rules.find_endpoint(session, caller.account_id, decode_segment(reference)).deployment.id

    return as_list([replica_view(found) for found in await services.controller.replicas(await run_in_threadpool(find))])


@router.get("/endpoints/{reference:path}/logs")
async def logs(
    reference: str,
    caller: CallerDep,
    services: ServicesDep,
    replica: str | None = None,
    lines: Annotated[int, Query(ge=0, le=2000)] = 100,
    after: Annotated[int | None, Query(ge=0, le=(1 << 63) - 1)] = None,
) -> Json:
    """What the engines of an endpoint wrote: the last `lines` of each replica, also of the last that were lost; or of
    one `replica`, and from it what follows `after`, an `end` of an earlier answer."""

    def find() -> str:
        with services.database.session() as session:
            return rules.find_endpoint(session, caller.account_id, decode_segment(reference)).deployment.id

    deployment = await run_in_threadpool(find)
    found = await services.controller.logs(deployment, replica, lines if after is None else None, after or 0)
    return as_list([{"object": "log", "replica": id_, "text": text, "end": end} for id_, text, end in found])


@router.get("/endpoints/{reference:path}")
def retrieve(reference: str, caller: CallerDep, services: ServicesDep) -> Json:
    with services.database.session() as session:
        found = rules.find_endpoint(session, caller.account_id, decode_segment(reference))
        return endpoint_view(found, services.settings.quantization)


@router.patch("/endpoints/{reference:path}")
def update(reference: str, body: UpdateEndpoint, caller: CallerDep, services: ServicesDep) -> Json:
    return remarked(endpoint_changes.update(services, caller, decode_segment(reference), body), body.remarks())


@router.delete("/endpoints/{reference:path}", status_code=204)
async def delete(reference: str, caller: CallerDep, services: ServicesDep, detach: bool = False) -> Response:
    """`detach` (ours): with whatever adapters are attached to it; without, an endpoint that has some is refused."""
    await services.controller.delete_endpoint(caller.account_id, decode_segment(reference), detach=detach)
    return Response(status_code=204)


@router.get("/hardware")
def hardware(caller: CallerDep, services: ServicesDep, model: str | None = None) -> Json:
    vllm = services.settings.vllm_python is not None
    known = [(item, item.usable(vllm=vllm) if model is not None else None) for item in machine_hardware()]
    return as_list([hardware_view(item, _STARTED, available=available) for item, available in known])


@router.get("/clusters/availability-zones")
def availability_zones(caller: CallerDep) -> Json:
    return {"avzones": [ZONE]}
