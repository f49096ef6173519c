"""/v1/endpoints, /v1/hardware and /v1/clusters/availability-zones."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from loradock.api.listing import Listed, PageDep, as_list
from loradock.api.paths import decode_segment
from loradock.api.services import ActorDep, ServicesDep
from loradock.api.unknown_fields import remarked
from loradock.api.v1.answers import EndpointAnswer, EndpointItem, HardwareItem, ReplicaItem, ReplicaLog, Zones
from loradock.api.v1.bodies import CreateEndpoint, UpdateEndpoint
from loradock.api.v1.views import endpoint_item, endpoint_view, hardware_view, replica_view
from loradock.endpoints.hardware import ZONE, machine_hardware
from loradock.operations import endpoints
from loradock.store.tables import iso, now
from loradock.types.enums import EndpointKind

router = APIRouter(prefix="/v1")
_STARTED = iso(now())


@router.post("/endpoints")
def create(
    body: CreateEndpoint, actor: ActorDep, services: ServicesDep, availability_zone: str | None = None
) -> EndpointAnswer:
    made = endpoints.create(services, actor, body.wanted(availability_zone))
    return remarked(endpoint_view(made, services.settings.quantization), body.remarks())


@router.get("/endpoints")
def index(
    actor: ActorDep,
    services: ServicesDep,
    page: PageDep,
    type: EndpointKind | None = None,
    mine: bool | None = None,
    usage_type: Literal["on-demand", "reserved"] | None = None,
) -> Listed[EndpointItem]:
    """`mine` changes nothing: an account sees its own only. Nothing here is `reserved`."""
    found = [] if usage_type == "reserved" else endpoints.index(services, actor, type)
    return page.listed([endpoint_item(endpoint, services.settings.quantization) for endpoint in found])


@router.get("/endpoints/{reference:path}/replicas")
async def replicas(reference: str, actor: ActorDep, services: ServicesDep) -> Listed[ReplicaItem]:
    found = await endpoints.replicas(services, actor, decode_segment(reference))
    return as_list([replica_view(replica) for replica in found])


@router.get("/endpoints/{reference:path}/logs")
async def logs(
    reference: str,
    actor: ActorDep,
    services: ServicesDep,
    replica: str | None = None,
    lines: Annotated[int, Query(ge=0, le=2000)] = 100,
    after: Annotated[int | None, Query(ge=0, le=(1 << 63) - 1)] = None,
) -> Listed[ReplicaLog]:
    """What the engines of an endpoint wrote: the last `lines` of each replica, also of the last that were lost; or of
    one `replica`, and from it what follows `after`, an `end` of an earlier answer."""
    last = lines if after is None else None
    found = await endpoints.logs(services, actor, decode_segment(reference), replica, last, after or 0)
    return as_list([ReplicaLog(object="log", replica=id_, text=text, end=end) for id_, text, end in found])


@router.get("/endpoints/{reference:path}")
def retrieve(reference: str, actor: ActorDep, services: ServicesDep) -> EndpointAnswer:
    return endpoint_view(endpoints.get(services, actor, decode_segment(reference)), services.settings.quantization)


@router.patch("/endpoints/{reference:path}")
def update(reference: str, body: UpdateEndpoint, actor: ActorDep, services: ServicesDep) -> EndpointAnswer:
    changed = endpoints.update(services, actor, decode_segment(reference), body.change())
    return remarked(endpoint_view(changed, services.settings.quantization), body.remarks())


@router.delete("/endpoints/{reference:path}", status_code=204)
async def delete(reference: str, actor: ActorDep, services: ServicesDep, detach: bool = False) -> Response:
    """`detach` (ours): with whatever adapters are attached to it; without, an endpoint that has some is refused."""
    await endpoints.delete(services, actor, decode_segment(reference), detach=detach)
    return Response(status_code=204)


@router.get("/hardware")
def hardware(actor: ActorDep, services: ServicesDep, model: str | None = None) -> Listed[HardwareItem]:
    vllm = services.settings.vllm_python is not None
    known = [(item, item.usable(vllm=vllm) if model is not None else None) for item in machine_hardware()]
    return as_list([hardware_view(item, _STARTED, available=available) for item, available in known])


@router.get("/clusters/availability-zones")
def availability_zones(actor: ActorDep) -> Zones:
    return {"avzones": [ZONE]}
