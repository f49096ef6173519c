"""/v1/endpoints/{id}/adapters: the seed of it all."""

import asyncio

from fastapi import APIRouter

from loradock.api.bodies import AdapterReference
from loradock.api.paths import decode_segment
from loradock.api.services import CallerDep, ServicesDep
from loradock.api.views import Json, adapter_view, as_list, where_kept, why_not_served
from loradock.control.views import ReplicaFacts
from loradock.endpoints import rules

router = APIRouter(prefix="/v1/endpoints/{reference:path}/adapters")


@router.post("")
async def add(reference: str, body: AdapterReference, caller: CallerDep, services: ServicesDep) -> Json:
    await services.controller.attach(caller.account_id, decode_segment(reference), body.model_id)
    return {"model_id": body.model_id}


@router.get("")
async def index(reference: str, caller: CallerDep, services: ServicesDep) -> Json:
    def read() -> tuple[str, list[Json]]:
        with services.database.session() as session:
            endpoint = rules.find_endpoint(session, caller.account_id, decode_segment(reference))
            views = [adapter_view(found, endpoint.name) for found in rules.attached_names(session, endpoint)]
            return endpoint.deployment.id, views

    deployment, views = await asyncio.to_thread(read)
    replicas = await services.controller.replicas(deployment)
    return as_list([{**view, **_at_work(view["adapter_name"], replicas)} for view in views])


def _at_work(adapter: str, replicas: list[ReplicaFacts]) -> Json:
    return {"replicas": where_kept(adapter, replicas), "message": why_not_served(adapter, replicas)}


@router.delete("")
async def remove(reference: str, body: AdapterReference, caller: CallerDep, services: ServicesDep) -> Json:
    await services.controller.detach(caller.account_id, decode_segment(reference), body.model_id)
    return {"model_id": body.model_id, "deleted": True}
