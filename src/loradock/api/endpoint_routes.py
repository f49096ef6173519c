"""/v1/endpoints, /v1/hardware and /v1/clusters/availability-zones."""

import asyncio
from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from loradock.api.bodies import CreateEndpoint, UpdateEndpoint
from loradock.api.paths import decode_segment
from loradock.api.services import CallerDep, Services, ServicesDep
from loradock.api.views import Json, as_list, endpoint_item, endpoint_view, hardware_view, iso, replica_view
from loradock.endpoints import rules
from loradock.endpoints.hardware import ZONE, machine_hardware
from loradock.gateway.keys import Caller
from loradock.store.events import record
from loradock.store.tables import now
from loradock.types.enums import DesiredState, EndpointKind, EngineKind, Visibility
from loradock.types.errors import BadRequest

router = APIRouter(prefix="/v1")
_STARTED = iso(now())


@router.post("/endpoints")
def create(
    body: CreateEndpoint, caller: CallerDep, services: ServicesDep, availability_zone: str | None = None
) -> Json:
    if body.engine is EngineKind.VLLM and services.settings.vllm_python is None:
        raise BadRequest(
            "this server has no vLLM: leave engine out, or start the server with --vllm-python", param="engine"
        )
    base = _checked_base(services, caller, body.model)
    new = rules.NewEndpoint(
        model=base,
        hardware=body.hardware or "",
        min_replicas=body.autoscaling.min_replicas,
        max_replicas=body.autoscaling.max_replicas,
        display_name=body.display_name,
        inactive_timeout=body.inactive_timeout,
        availability_zone=body.availability_zone or availability_zone,
        lora_enabled=body.lora_enabled is not False,
        max_lora_rank=rules.DEFAULT_LORA_RANK if body.max_lora_rank is None else body.max_lora_rank,
        engine=body.engine,
        vllm=services.settings.vllm_python is not None,
        auto_start=body.auto_start is True,
        desired=body.state or DesiredState.STARTED,
        kind=body.type or EndpointKind.DEDICATED,
        visibility=body.visibility or Visibility.PRIVATE,
    )
    with services.database.session() as session:
        endpoint = rules.create_endpoint(session, caller.account_id, caller.account, new)
        record(session, caller.account_id, endpoint.id, "endpoint.created", f"{endpoint.name} was created")
        view, deployment = endpoint_view(endpoint), endpoint.deployment.id
    services.controller.wake(deployment)
    return view


def _checked_base(services: Services, caller: Caller, model: str) -> str:
    with services.database.session() as session:
        base = rules.check_base_name(session, caller.account_id, caller.account, model)
    services.bases.check(base, caller.account_id)
    return base


@router.get("/endpoints")
def index(
    caller: CallerDep,
    services: ServicesDep,
    type: EndpointKind | None = None,
    mine: bool | None = None,
    usage_type: Literal["on-demand", "reserved"] | None = None,
) -> Json:
    """`mine` changes nothing: an account sees its own only. Nothing here is `reserved`."""
    if usage_type == "reserved":
        return as_list([])
    with services.database.session() as session:
        return as_list([endpoint_item(e) for e in rules.list_endpoints(session, caller.account_id, type)])


@router.get("/endpoints/{reference:path}/replicas")
async def replicas(reference: str, caller: CallerDep, services: ServicesDep) -> Json:
    def find() -> str:
        with services.database.session() as session:
            return rules.find_endpoint(session, caller.account_id, decode_segment(reference)).deployment.id

    return as_list([replica_view(found) for found in await services.controller.replicas(await asyncio.to_thread(find))])


@router.get("/endpoints/{reference:path}")
def retrieve(reference: str, caller: CallerDep, services: ServicesDep) -> Json:
    with services.database.session() as session:
        return endpoint_view(rules.find_endpoint(session, caller.account_id, decode_segment(reference)))


@router.patch("/endpoints/{reference:path}")
def update(reference: str, body: UpdateEndpoint, caller: CallerDep, services: ServicesDep) -> Json:
    change = rules.EndpointChange(
        display_name=body.display_name,
        min_replicas=body.autoscaling.min_replicas if body.autoscaling else None,
        max_replicas=body.autoscaling.max_replicas if body.autoscaling else None,
        inactive_timeout=body.new_timeout,
        lora_enabled=body.lora_enabled,
        max_lora_rank=body.max_lora_rank,
        auto_start=body.auto_start,
        desired=body.state,
    )
    with services.database.session() as session:
        endpoint = rules.find_endpoint(session, caller.account_id, decode_segment(reference))
        rules.update_endpoint(session, endpoint, change)
        changed = ", ".join(sorted(body.model_dump(exclude_none=True, mode="json"))) or "nothing"
        record(session, caller.account_id, endpoint.id, "endpoint.updated", f"changed: {changed}")
        view, deployment = endpoint_view(endpoint), endpoint.deployment.id
    services.controller.wake(deployment)
    return view


@router.delete("/endpoints/{reference:path}", status_code=204)
async def delete(reference: str, caller: CallerDep, services: ServicesDep) -> Response:
    await services.controller.delete_endpoint(caller.account_id, decode_segment(reference))
    return Response(status_code=204)


@router.get("/hardware")
def hardware(caller: CallerDep, services: ServicesDep, model: str | None = None) -> Json:
    vllm = services.settings.vllm_python is not None
    known = [(item, item.usable(vllm=vllm) if model is not None else None) for item in machine_hardware()]
    return as_list([hardware_view(item, _STARTED, available=available) for item, available in known])


@router.get("/clusters/availability-zones")
def availability_zones(caller: CallerDep) -> Json:
    return {"avzones": [ZONE]}
